// Bearer tokens as the distribution specification's token protocol has them: JSON web tokens whose claim "access" lists what their bearer may
// do. The registry takes those of an issuer whose keys it was given, or is its own issuer: GET /token, for the users of the htpasswd
// file (issue.c). Its own are signed with a secret in ROOT/token.key (HS256), those of others with their private key.
//
// Sources: distribution's docs/spec/auth (token, jwt, scope); RFC 7519, RFC 7518.
#ifndef REGISTRY_TOKEN_H
#define REGISTRY_TOKEN_H

#include "base/arena.h"
#include "base/err.h"
#include "base/slice.h"

#define TOKEN_SECRET_SIZE 32
#define TOKEN_LIFE_S 300

struct token_keys; // the public keys of an issuer

// From a PEM file of public keys or certificates, each of which may sign, or a JSON web key set. A certificate of the file vouches for those
// that tokens bring themselves (their header's "x5c").
int token_keys_read(const char *path, struct token_keys **out, struct err *err);
void token_keys_free(struct token_keys *keys); // NULL is fine

// Who may have signed, for whom a token must be, and when.
struct token_rules {
    const struct token_keys *keys; // NULL: none but the own secret
    const uint8_t *secret; // TOKEN_SECRET_SIZE bytes; NULL: the registry issues none
    const char *issuer, *service; // NULL: any issuer
    int64_t now_s;
};

// Whether `text` is a token under these rules whose claim allows `action` on `type` `name`. 1: yes. 0: it is one, and does not.
// unauthenticated: it is none, with why. An action "" asks for nothing but a valid token.
int token_allows(const struct token_rules *rules, const char *text, const char *type, const char *name, const char *action,
                 struct arena *arena, struct err *err);

// A token of our own in the arena: for `user`, allowing the scopes ("repository:a/b:pull,push"). What is not a scope is left out.
char *token_issue(const struct token_rules *rules, const char *user, const struct strv *scopes, struct arena *arena);

#endif
