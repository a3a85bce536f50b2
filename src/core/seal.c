/* See seal.h. Room: src/core. */
#include "seal.h"
#include "secure.h"

#include <openssl/err.h>
#include <openssl/evp.h>

/* What both directions check. */
static ls_code admit(ls_str key, size_t n, ls_str context)
{
  if(key.n != LS_SEAL_KEY)
    return LS_EINVAL;
  if(n > LS_SEAL_MAX || context.n > LS_SEAL_MAX)
    return LS_ELIMIT;
  return LS_OK;
}

/* OpenSSL takes lengths as int, and NULL for "not there". */
static const unsigned char *bytes(ls_str s)
{
  return (const unsigned char *)(s.p ? s.p : "");
}

ls_code ls_seal(unsigned char *out, ls_str key,
                const unsigned char nonce[LS_SEAL_NONCE], ls_str text,
                ls_str context)
{
  EVP_CIPHER_CTX *ctx = NULL;
  unsigned char *body = out + LS_SEAL_NONCE;
  ls_code code = admit(key, text.n, context);
  int n;

  if(code)
    return code;
  code = LS_ECRYPTO;
  ctx = EVP_CIPHER_CTX_new();
  if(!ctx)
    return LS_ENOMEM;
  memcpy(out, nonce, LS_SEAL_NONCE);
  if(EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, bytes(key), nonce) != 1 ||
     EVP_EncryptUpdate(ctx, NULL, &n, bytes(context), (int)context.n) != 1 ||
     EVP_EncryptUpdate(ctx, body, &n, bytes(text), (int)text.n) != 1 ||
     EVP_EncryptFinal_ex(ctx, body + text.n, &n) != 1 ||
     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, LS_SEAL_TAG,
                         body + text.n) != 1)
    goto done;
  code = LS_OK;
done:
  if(code)
    ERR_clear_error(); /* TLS in this thread has the same queue */
  EVP_CIPHER_CTX_free(ctx);
  return code;
}

ls_code ls_unseal(unsigned char *out, ls_str key, ls_str sealed,
                  ls_str context)
{
  EVP_CIPHER_CTX *ctx = NULL;
  unsigned char tag[LS_SEAL_TAG];
  const unsigned char *nonce = bytes(sealed);
  ls_code code;
  size_t size;
  int n;

  if(sealed.n < LS_SEAL_MORE)
    return LS_EPARSE;
  size = sealed.n - LS_SEAL_MORE;
  code = admit(key, size, context);
  if(code)
    return code;
  code = LS_ECRYPTO;
  ctx = EVP_CIPHER_CTX_new();
  if(!ctx)
    return LS_ENOMEM;
  memcpy(tag, nonce + LS_SEAL_NONCE + size, LS_SEAL_TAG);
  if(EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, bytes(key), nonce) != 1 ||
     EVP_DecryptUpdate(ctx, NULL, &n, bytes(context), (int)context.n) != 1 ||
     EVP_DecryptUpdate(ctx, out, &n, nonce + LS_SEAL_NONCE, (int)size) != 1 ||
     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, LS_SEAL_TAG, tag) != 1)
    goto done;
  code = EVP_DecryptFinal_ex(ctx, out + size, &n) == 1 ? LS_OK : LS_ESIG;
done:
  if(code) {
    ls_wipe(out, size);
    ERR_clear_error();
  }
  EVP_CIPHER_CTX_free(ctx);
  return code;
}
