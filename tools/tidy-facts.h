// What clang-tidy's analyzer can't see from one file: these functions always fail. Included before each file it reads.
#include "base/err.h"

#define err_set(...) ((err_set)(__VA_ARGS__), -1)
#define err_errno(...) ((err_errno)(__VA_ARGS__), -1)
#define err_wrap(...) ((err_wrap)(__VA_ARGS__), -1)
