// TLS, in front of the server: one thread for each such client, which speaks TLS with it and plain bytes over a pair of sockets
// with the rest of the server. So nothing behind it knows of TLS; a hijacked connection's descriptor is a socket like any
// other, also in the hands of another process.
//
//     client  <-- records -->  relay thread  <-- bytes, socket pair -->  acceptor, libmicrohttpd, handlers, shims
//
// Half-closes go through both ways: close_notify from the client becomes the end of the stream inside, and the other way round.
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "httpd_private.h"

#define PIECE 16384 // bytes of the largest record: nothing stays behind in the library when one was taken
#define LINGER_NS NS_PER_S // what a client still sends is dropped that long: a reset would take the last answer with it
#define STACK_SIZE (256u << 10) // shaking hands takes large numbers
#define RELAY_MAX 4096u
#define VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct httpd_tls {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    bool asks; // clients must show a certificate
    atomic_uint users; // the owner and each relay: the last one frees it
};

static void let_go(struct httpd_tls *tls)
{
    if (atomic_fetch_sub(&tls->users, 1) > 1)
        return;
    if (tls->credentials)
        gnutls_certificate_free_credentials(tls->credentials);
    if (tls->priority)
        gnutls_priority_deinit(tls->priority);
    free(tls);
}

void httpd_tls_free(struct httpd_tls *tls)
{
    if (tls)
        let_go(tls);
}

static int load(struct httpd_tls *tls, const struct httpd_tls_files *files, struct err *err)
{
    int result = gnutls_certificate_set_x509_key_file(tls->credentials, files->cert, files->key, GNUTLS_X509_FMT_PEM);
    if (result < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "certificate %s with key %s: %s", files->cert, files->key, gnutls_strerror(result));
    if (!files->client_ca)
        return 0;
    result = gnutls_certificate_set_x509_trust_file(tls->credentials, files->client_ca, GNUTLS_X509_FMT_PEM);
    if (result <= 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "CA certificates %s: %s", files->client_ca,
                       result < 0 ? gnutls_strerror(result) : "none in it");
    tls->asks = true;
    return 0;
}

int httpd_tls_new(const struct httpd_tls_files *files, struct httpd_tls **out, struct err *err)
{
    struct httpd_tls *tls = mem_new(struct httpd_tls);
    atomic_init(&tls->users, 1);
    if (gnutls_certificate_allocate_credentials(&tls->credentials) < 0 || gnutls_priority_init(&tls->priority, VERSIONS, NULL) < 0)
        err_set(err, ERR_INTERNAL, "TLS did not start");
    else if (load(tls, files, err) == 0)
        return *out = tls, 0;
    let_go(tls);
    return -1;
}

// ---- one client -----------------------------------------------------------------------------------------------------

struct flow { // one direction: what was read and is not written yet
    char data[PIECE];
    size_t at, size;
    bool ended; // nothing more comes
    bool told; // and the other side knows
};

struct relay {
    struct httpd_tls *tls;
    gnutls_session_t session;
    gnutls_typed_vdata_st purpose; // of the client's certificate; the session looks at it until hands are shaken
    int client; // the client's socket
    int inner; // our end of the pair
    struct flow in, out; // from the client; to the client
};

static int session_new(struct relay *relay)
{
    static const gnutls_datum_t http = { (unsigned char *)"http/1.1", 8 };
    gnutls_session_t session;
    if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
        return -1;
    relay->session = session;
    gnutls_priority_set(session, relay->tls->priority);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, relay->tls->credentials);
    gnutls_alpn_set_protocols(session, &http, 1, 0); // no HTTP/2 is behind it
    if (relay->tls->asks) {
        relay->purpose = (gnutls_typed_vdata_st){ GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT, 0 };
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert2(session, &relay->purpose, 1, 0);
    }
    gnutls_transport_set_int(session, relay->client);
    return 0;
}

// The acceptor gives up a client that says nothing for a while: then the pair's other end is closed.
static bool shake_hands(struct relay *relay)
{
    for (;;) {
        int result = gnutls_handshake(relay->session);
        if (result == GNUTLS_E_SUCCESS)
            return true;
        if (gnutls_error_is_fatal(result)) {
            gnutls_alert_send_appropriate(relay->session, result);
            return false;
        }
        short wanted = gnutls_record_get_direction(relay->session) ? POLLOUT : POLLIN;
        struct pollfd fds[2] = { { relay->client, wanted, 0 }, { relay->inner, 0, 0 } };
        if ((poll(fds, 2, -1) < 0 && errno != EINTR) || (fds[1].revents & (POLLHUP | POLLERR)))
            return false;
    }
}

static bool would_block(ssize_t result)
{
    return result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED;
}

static bool is_empty(const struct flow *flow)
{
    return flow->at == flow->size;
}

// Each step returns false when the connection is over.
static bool take_from_client(struct relay *relay)
{
    ssize_t got = gnutls_record_recv(relay->session, relay->in.data, PIECE);
    if (got > 0)
        relay->in.at = 0, relay->in.size = (size_t)got;
    else if (got == 0)
        relay->in.ended = true;
    else if (got == GNUTLS_E_REHANDSHAKE)
        gnutls_alert_send(relay->session, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
    return got >= 0 || would_block(got) || got == GNUTLS_E_REHANDSHAKE || !gnutls_error_is_fatal((int)got);
}

static bool give_to_server(struct relay *relay)
{
    struct flow *in = &relay->in;
    ssize_t sent = is_empty(in) ? 0 : send(relay->inner, in->data + in->at, in->size - in->at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        in->at = in->size; // the server takes no more; what it has to say goes on
        in->ended = in->told = true;
        return true;
    }
    in->at += sent > 0 ? (size_t)sent : 0;
    if (is_empty(in) && in->ended && !in->told) {
        shutdown(relay->inner, SHUT_WR);
        in->told = true;
    }
    return true;
}

static bool take_from_server(struct relay *relay)
{
    ssize_t got = recv(relay->inner, relay->out.data, PIECE, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    relay->out.at = 0;
    relay->out.size = (size_t)got;
    relay->out.ended = got == 0;
    return true;
}

static bool give_to_client(struct relay *relay)
{
    struct flow *out = &relay->out;
    if (!is_empty(out)) {
        ssize_t sent = gnutls_record_send(relay->session, out->data + out->at, out->size - out->at);
        if (sent < 0)
            return would_block(sent);
        out->at += (size_t)sent;
    }
    if (is_empty(out) && out->ended && !out->told) {
        int result = gnutls_bye(relay->session, GNUTLS_SHUT_WR);
        out->told = !would_block(result);
    }
    return true;
}

static void watch(const struct relay *relay, struct pollfd fds[2])
{
    const struct flow *in = &relay->in, *out = &relay->out;
    bool sends = !is_empty(out) || (out->ended && !out->told);
    fds[0] = (struct pollfd){ relay->client, (short)((!in->ended && is_empty(in) ? POLLIN : 0) | (sends ? POLLOUT : 0)), 0 };
    fds[1] = (struct pollfd){ relay->inner, (short)((!is_empty(in) ? POLLOUT : 0) | (!out->ended && is_empty(out) ? POLLIN : 0)), 0 };
    if (!fds[1].events && !out->told)
        fds[1].fd = -1; // the server has hung up, and its last words wait for the client: nothing to wake up for
}

// Nothing is wanted of a side, and it is gone for good: the client by a reset, the server once its last words are out.
static bool is_gone(const struct relay *relay, const struct pollfd fds[2])
{
    return (!fds[0].events && (fds[0].revents & (POLLHUP | POLLERR))) || (relay->out.told && (fds[1].revents & (POLLHUP | POLLERR)));
}

static void pump(struct relay *relay)
{
    struct flow *in = &relay->in, *out = &relay->out;
    struct pollfd fds[2];
    while (!(out->told && in->told)) {
        watch(relay, fds);
        if ((poll(fds, 2, -1) < 0 && errno != EINTR) || is_gone(relay, fds))
            return;
        if (fds[0].revents && !in->ended && is_empty(in) && !take_from_client(relay))
            return;
        if (!give_to_server(relay))
            return;
        if (fds[1].revents && !out->ended && is_empty(out) && !take_from_server(relay))
            return;
        if (!give_to_client(relay))
            return;
    }
}

static void linger(int sock)
{
    char dropped[4096];
    int64_t until_ns = clock_mono_ns() + LINGER_NS, left_ns;
    shutdown(sock, SHUT_WR);
    while ((left_ns = until_ns - clock_mono_ns()) > 0) {
        struct pollfd fd = { sock, POLLIN, 0 };
        if (poll(&fd, 1, (int)(left_ns / NS_PER_MS) + 1) <= 0 || recv(sock, dropped, sizeof(dropped), MSG_DONTWAIT) <= 0)
            return;
    }
}

static void *run(void *context)
{
    struct relay *relay = context;
    if (session_new(relay) == 0) {
        if (shake_hands(relay))
            pump(relay);
        gnutls_deinit(relay->session);
    }
    shutdown(relay->inner, SHUT_RDWR);
    close(relay->inner);
    linger(relay->client);
    close(relay->client);
    let_go(relay->tls);
    free(relay);
    return NULL;
}

int tls_relay(struct httpd_tls *tls, int take_client, struct err *err)
{
    int pair[2];
    pthread_t thread;
    pthread_attr_t detached;
    _cleanup_close_ int client = take_client;
    if (atomic_load(&tls->users) > RELAY_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %u clients by TLS", RELAY_MAX);
    if (fd_socketpair(SOCK_STREAM, pair, err) < 0)
        return -1;
    struct relay *relay = mem_new(struct relay);
    relay->tls = tls;
    relay->client = client;
    relay->inner = pair[0];
    atomic_fetch_add(&tls->users, 1);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, STACK_SIZE);
    int failed = pthread_create(&thread, &detached, run, relay);
    pthread_attr_destroy(&detached);
    if (failed) {
        close(pair[0]);
        close(pair[1]);
        free(relay);
        let_go(tls);
        return err_errno(err, failed, "start a thread for TLS");
    }
    take_fd(&client);
    fd_set_nonblock(pair[1], true, NULL);
    return pair[1];
}
