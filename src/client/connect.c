// Where the daemon is: unix:// and tcp://, the latter with TLS or, as docker's client does it, without.
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client/client_private.h"
#include "base/fd.h"

static int unreachable(const struct client *client, int number, struct err *err)
{
    if (number == EACCES || number == EPERM)
        return err_set(err, ERR_PERMISSION_DENIED, "permission denied while trying to connect to the Docker daemon socket at %s: %s",
                       client->host, strerror(number));
    return err_set(err, ERR_UNAVAILABLE, "Cannot connect to the Docker daemon at %s. Is the docker daemon running?", client->host);
}

static int connect_unix(struct client *client, const char *path, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, ERR_INVALID_ARGUMENT, "unix socket path is too long: %s", path);
    memcpy(address.sun_path, path, strlen(path));
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, errno, "socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return unreachable(client, errno, err);
    return take_fd(&fd);
}

static int connect_address(const struct addrinfo *at)
{
    int on = 1;
    _cleanup_close_ int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, at->ai_addr, at->ai_addrlen) < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return take_fd(&fd);
}

static int connect_tcp(struct client *client, const char *text, struct err *err)
{
    char host[256], port[16] = "";
    const char *end = *text == '[' ? strchrnul(text, ']') : strchrnul(text, ':');
    snprintf(host, sizeof(host), "%.*s", (int)(end - text) - (*text == '['), text + (*text == '['));
    end += *end == ']';
    if (*end == ':')
        snprintf(port, sizeof(port), "%.*s", (int)strcspn(end + 1, "/"), end + 1);
    if (!*port)
        snprintf(port, sizeof(port), "%s", client->tls.on ? "2376" : "2375");
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    int failed = getaddrinfo(*host ? host : "127.0.0.1", port, &hints, &found);
    if (failed)
        return err_set(err, ERR_UNAVAILABLE, "%s: %s", client->host, gai_strerror(failed));
    int fd = -1;
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
        fd = connect_address(at);
    int number = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return unreachable(client, number, err);
    return client->tls.on ? client_tls_relay(fd, &client->tls, *host ? host : "127.0.0.1", err) : fd;
}

int client_connect(struct client *client, struct err *err)
{
    if (str_starts(client->host, "unix://"))
        return connect_unix(client, client->host + 7, err);
    if (str_starts(client->host, "tcp://"))
        return connect_tcp(client, client->host + 6, err);
    if (str_starts(client->host, "ssh://") || str_starts(client->host, "npipe://") || str_starts(client->host, "fd://"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "%s: a host is unix://PATH or tcp://HOST:PORT", client->host);
    return err_set(err, ERR_INVALID_ARGUMENT, "unable to parse docker host `%s`", client->host);
}
