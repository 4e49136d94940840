#include <gnutls/gnutls.h>

#include "distribution_private.h"

// Unasked, as Docker does it: an index has no challenge.
static char *basic(const struct distribution_login *login)
{
    if (str_empty(login->username) || str_empty(login->password))
        return NULL;
    _cleanup_free_ char *both = mem_printf("%s:%s", login->username, login->password);
    const gnutls_datum_t in = { (unsigned char *)both, (unsigned)strlen(both) };
    gnutls_datum_t out = { 0 };
    char *header = gnutls_base64_encode2(&in, &out) == 0 ? mem_printf("Basic %.*s", (int)out.size, out.data) : NULL;
    explicit_bzero(both, strlen(both));
    gnutls_free(out.data);
    return header;
}

// 0: an answer, whatever its status.
static int ask(struct distribution *distribution, const struct endpoint *endpoint, const char *query, const char *authorization,
               struct exchange *exchange)
{
    _cleanup_free_ char *url = mem_printf("%s/v1/search?%s", endpoint->base, query);
    *exchange = (struct exchange){ .method = "GET", .url = url, .authorization = authorization, .accept = "application/json",
                                   .endpoint = endpoint, .text_max = DISTRIBUTION_SEARCH_MAX };
    return exchange_run(distribution, exchange);
}

int distribution_search(struct distribution *distribution, const char *query, struct buf *out, struct err *err)
{
    _cleanup_free_ char *authorization = basic(&distribution->login);
    struct exchange exchange = { 0 };
    int answered = -1;
    for (size_t i = 0; i < distribution->endpoints.len && answered < 0; i++) {
        exchange_done(&exchange);
        answered = ask(distribution, &distribution->endpoints.items[i], query, authorization, &exchange);
    }
    bool good = answered == 0 && exchange.status == 200;
    if (good)
        buf_add(out, exchange.text.data, exchange.text.size);
    else if (answered == 0)
        err_set(err, exchange.status == 401 ? ERR_UNAUTHENTICATED : ERR_UNAVAILABLE, "Unexpected status code %ld", exchange.status);
    else
        exchange_fail(distribution, &exchange, "search", err);
    exchange_done(&exchange);
    return good ? 0 : -1;
}
