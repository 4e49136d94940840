// TCP addresses as options name them.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/num.h"
#include "httpd_private.h"

static int parse_address(const char *text, struct sockaddr_in6 *out, struct err *err)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    char host[INET6_ADDRSTRLEN + 8] = "";
    struct in_addr v4;
    if (!colon || !num_parse_u64(slice_of(colon + 1), UINT16_MAX, &port) || (size_t)(colon - text) >= sizeof(host))
        return err_set(err, ERR_INVALID_ARGUMENT, "not ADDRESS:PORT");
    size_t size = (size_t)(colon - text);
    bool bracketed = size >= 2 && text[0] == '[' && colon[-1] == ']';
    memcpy(host, text + bracketed, size - 2 * bracketed);
    *out = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_any };
    if (!bracketed && inet_pton(AF_INET, host, &v4) == 1) {
        char mapped[INET6_ADDRSTRLEN + 8];
        snprintf(mapped, sizeof(mapped), "::ffff:%s", host);
        inet_pton(AF_INET6, mapped, &out->sin6_addr);
    } else if (size > 0 && (!bracketed || inet_pton(AF_INET6, host, &out->sin6_addr) != 1)) {
        return err_set(err, ERR_INVALID_ARGUMENT, "not ADDRESS:PORT");
    }
    return 0;
}

// One kind of socket for both: IPv4 addresses are mapped into IPv6.
int httpd_tcp_socket(const char *text, struct err *err)
{
    struct sockaddr_in6 address;
    int off = 0, on = 1;
    if (parse_address(text, &address, err) < 0)
        return -1;
    _cleanup_close_ int sock = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return err_errno(err, errno, "socket");
    setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); // inherited by what is accepted
    if (bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(sock, SOMAXCONN) < 0)
        return err_errno(err, errno, "listen");
    return take_fd(&sock);
}
