// rooms: http base
// What a daemon answers: heads and bodies of whatever framing, two answers on one connection.
#include <sys/socket.h>

#include "base/fd.h"
#include "http/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_exchange x;
    struct slice value;
    char piece[97];
    int pair[2];
    if (size > 65536 || fd_socketpair(SOCK_STREAM, pair, NULL) < 0)
        return 0;
    int room = 1 << 20;
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    http_exchange_init(&x, pair[0]);
    if (send(pair[1], data, size, MSG_DONTWAIT) == (ssize_t)size) {
        shutdown(pair[1], SHUT_WR);
        for (int i = 0; i < 2 && http_exchange_receive(&x, NULL) == 0; i++) {
            http_exchange_header(&x, "Content-Type", &value);
            while (http_exchange_read(&x, piece, sizeof(piece), NULL) > 0)
                ;
            if (!http_exchange_reusable(&x))
                break;
        }
    }
    http_exchange_done(&x);
    fd_close(pair[1]);
    return 0;
}
