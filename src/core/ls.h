/* longshore core: the codes and the export mark that every file shares.
 *
 * Room: src/core. Plain C, no Lua, no sockets, no threads, no stdio. Inputs
 * are pointer + size_t, results go out by pointer, the return value is an
 * ls_code and LS_OK is zero. Time and randomness are parameters.
 */
#ifndef LS_H
#define LS_H

#include <stddef.h>
#include <stdint.h>

enum ls_code {
  LS_OK = 0,
  LS_EINVAL,   /* an argument is outside what the function documents */
  LS_ENOMEM,   /* out of memory */
  LS_ELIMIT,   /* a ceiling was reached: a buffer's, a store's, an integer's */
  LS_ECRYPTO,  /* OpenSSL refused an operation */
  LS_EIO,      /* the operating system refused an operation; errno has why */
  LS_ECHANGED, /* a file is not the one it was said to be */
  LS_EPARSE,   /* bytes from outside do not have the form they must have */
  LS_ESIG      /* a signature does not match */
};
typedef enum ls_code ls_code;

#if defined(__GNUC__)
#define LS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define LS_MUST_CHECK
#endif

#endif
