// TLS by GnuTLS, which is opened only when it is needed: a daemon on a unix socket, which is nearly every one, shall not pay for loading
// it. A thread hands bytes on between the encrypted socket and a socket pair, so that everything else, hijacked streams and half
// closes too, sees a plain socket.
#include <dlfcn.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <arpa/inet.h>
#include <sys/socket.h>

#include "client/client_private.h"
#include "base/fd.h"

#define PIECE 16384

#define CALLS(X)                                                                                                                   \
    X(gnutls_init) X(gnutls_deinit) X(gnutls_set_default_priority) X(gnutls_credentials_set) X(gnutls_transport_set_int2)          \
    X(gnutls_handshake) X(gnutls_record_recv) X(gnutls_record_send) X(gnutls_record_check_pending) X(gnutls_bye) X(gnutls_strerror) \
    X(gnutls_error_is_fatal) X(gnutls_certificate_allocate_credentials) X(gnutls_certificate_free_credentials)                      \
    X(gnutls_certificate_set_x509_trust_file) X(gnutls_certificate_set_x509_key_file) X(gnutls_session_set_verify_cert)             \
    X(gnutls_server_name_set) X(gnutls_session_get_verify_cert_status) X(gnutls_certificate_verification_status_print)

struct library {
#define MEMBER(name) __typeof__(&name) name;
    CALLS(MEMBER)
};

struct flow { // one direction: what was read and is not written yet
    char data[PIECE];
    size_t at, size;
    bool ended, told; // nothing more comes; and the other side knows
};

struct relay {
    struct library call;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    int outside, inside; // encrypted, plain
    struct flow in, out; // from the daemon; to it
};

static int load(struct library *library, struct err *err)
{
    void *handle = dlopen("libgnutls.so.30", RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return err_set(err, ERR_UNAVAILABLE, "TLS needs libgnutls.so.30: %s", dlerror());
#define FIND(name)                                                                   \
    if (!(*(void **)&library->name = dlsym(handle, #name)))                          \
        return err_set(err, ERR_UNAVAILABLE, "libgnutls.so.30 lacks %s", #name);
    CALLS(FIND)
    return 0;
}

static void relay_free(struct relay *relay)
{
    if (relay->session)
        relay->call.gnutls_deinit(relay->session);
    if (relay->credentials)
        relay->call.gnutls_certificate_free_credentials(relay->credentials);
    fd_close(relay->outside);
    fd_close(relay->inside);
    free(relay);
}

static int take_files(struct relay *relay, const struct client_tls *tls, struct err *err)
{
    int result = relay->call.gnutls_certificate_allocate_credentials(&relay->credentials);
    if (result == 0 && tls->verify) {
        result = relay->call.gnutls_certificate_set_x509_trust_file(relay->credentials, tls->ca, GNUTLS_X509_FMT_PEM);
        if (result <= 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "could not read CA certificate \"%s\": %s", tls->ca,
                           result < 0 ? relay->call.gnutls_strerror(result) : "none in it");
    }
    if (access(tls->cert, F_OK) != 0 && access(tls->key, F_OK) != 0)
        return 0;
    result = relay->call.gnutls_certificate_set_x509_key_file(relay->credentials, tls->cert, tls->key, GNUTLS_X509_FMT_PEM);
    return result < 0 ? err_set(err, ERR_INVALID_ARGUMENT, "could not load X509 key pair (cert: \"%s\", key: \"%s\"): %s", tls->cert, tls->key,
                                relay->call.gnutls_strerror(result)) : 0;
}

static int handshake(struct relay *relay, const struct client_tls *tls, const char *host, struct err *err)
{
    struct library *call = &relay->call;
    gnutls_datum_t why = { NULL, 0 };
    unsigned char address[16];
    bool numeric = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    call->gnutls_init(&relay->session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    call->gnutls_set_default_priority(relay->session);
    call->gnutls_credentials_set(relay->session, GNUTLS_CRD_CERTIFICATE, relay->credentials);
    if (!numeric)
        call->gnutls_server_name_set(relay->session, GNUTLS_NAME_DNS, host, strlen(host));
    if (tls->verify)
        call->gnutls_session_set_verify_cert(relay->session, host, 0);
    call->gnutls_transport_set_int2(relay->session, relay->outside, relay->outside);
    int result;
    do
        result = call->gnutls_handshake(relay->session);
    while (result < 0 && !call->gnutls_error_is_fatal(result));
    if (result == 0)
        return 0;
    if (result == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
        call->gnutls_certificate_verification_status_print(call->gnutls_session_get_verify_cert_status(relay->session), GNUTLS_CRT_X509, &why, 0);
    err_set(err, ERR_UNAUTHENTICATED, "error during connect: TLS with %s: %s %s", host, call->gnutls_strerror(result), why.data ? (char *)why.data : "");
    free(why.data);
    return -1;
}

static bool is_empty(const struct flow *flow)
{
    return flow->at == flow->size;
}

// Each step returns false when the connection is over.
static bool take_from_daemon(struct relay *relay)
{
    struct flow *in = &relay->in;
    ssize_t got = relay->call.gnutls_record_recv(relay->session, in->data, PIECE);
    in->at = 0;
    in->size = got > 0 ? (size_t)got : 0;
    return got > 0 || (got < 0 && !relay->call.gnutls_error_is_fatal((int)got));
}

static bool give_to_client(struct relay *relay)
{
    struct flow *in = &relay->in;
    ssize_t sent = send(relay->inside, in->data + in->at, in->size - in->at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR;
    in->at += (size_t)sent;
    return true;
}

static bool take_from_client(struct relay *relay)
{
    struct flow *out = &relay->out;
    ssize_t got = recv(relay->inside, out->data, PIECE, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    out->at = 0;
    out->size = (size_t)got;
    out->ended = got == 0;
    return true;
}

// The end of what the client sends is a half close, TLS's "close notify".
static bool give_to_daemon(struct relay *relay)
{
    struct flow *out = &relay->out;
    if (out->ended) {
        out->told = relay->call.gnutls_bye(relay->session, GNUTLS_SHUT_WR) != GNUTLS_E_AGAIN;
        return true;
    }
    ssize_t sent = relay->call.gnutls_record_send(relay->session, out->data + out->at, out->size - out->at);
    if (sent < 0)
        return !relay->call.gnutls_error_is_fatal((int)sent);
    out->at += (size_t)sent;
    return true;
}

// Neither direction waits for the other: a daemon that takes no input until its output is read would wait for us, and we for it.
static bool turn(struct relay *relay)
{
    const struct flow *in = &relay->in, *out = &relay->out;
    bool sends = !is_empty(out) || (out->ended && !out->told);
    struct pollfd fds[2] = {
        { .fd = relay->outside, .events = (short)((is_empty(in) ? POLLIN : 0) | (sends ? POLLOUT : 0)) },
        { .fd = relay->inside, .events = (short)((is_empty(in) ? 0 : POLLOUT) | (out->ended || sends ? 0 : POLLIN)) },
    };
    bool pending = is_empty(in) && relay->call.gnutls_record_check_pending(relay->session) > 0;
    if (poll(fds, 2, pending ? 0 : -1) < 0)
        return errno == EINTR;
    if ((fds[1].revents & (POLLHUP | POLLERR)) && out->ended)
        return false; // the client is gone, and what it sent is sent
    if (!is_empty(in) && (fds[1].revents & POLLOUT) && !give_to_client(relay))
        return false;
    if (sends && (fds[0].revents & POLLOUT) && !give_to_daemon(relay))
        return false;
    if ((fds[1].revents & POLLIN) && !take_from_client(relay))
        return false;
    return !is_empty(in) || !(pending || (fds[0].revents & (POLLIN | POLLHUP | POLLERR))) || take_from_daemon(relay);
}

static void *run(void *context)
{
    struct relay *relay = context;
    while (turn(relay))
        ;
    relay_free(relay);
    return NULL;
}

int client_tls_relay(int fd, const struct client_tls *tls, const char *host, struct err *err)
{
    struct relay *relay = mem_new(struct relay);
    pthread_t thread;
    int pair[2];
    relay->outside = fd;
    relay->inside = -1;
    if (load(&relay->call, err) < 0 || take_files(relay, tls, err) < 0 || handshake(relay, tls, host, err) < 0 ||
        fd_set_nonblock(fd, true, err) < 0 || fd_socketpair(SOCK_STREAM, pair, err) < 0) {
        relay_free(relay);
        return -1;
    }
    relay->inside = pair[1];
    sigset_t all, before; // signals are the session's
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&thread, NULL, run, relay);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result) {
        relay_free(relay);
        fd_close(pair[0]);
        return err_errno(err, result, "a thread for TLS");
    }
    pthread_detach(thread);
    return pair[0];
}
