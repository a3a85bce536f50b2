/* Signatures of web tokens. See jws.h. Room: src/core. */
#include "jws.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <stdlib.h>

#include "secure.h"
#include "sha256.h"

#define P256_SIZE 32
#define ED25519_SIZE 32
/* Longer than any key or number that is meant. */
#define INPUT_MAX 16384

struct ls_jws_key {
  ls_jws_algorithm algorithm;
  ls_hmac hmac;   /* HS256 */
  EVP_PKEY *pkey; /* the others */
};

static ls_code new_key(ls_jws_key **out, ls_jws_algorithm algorithm)
{
  *out = calloc(1, sizeof(**out));
  if(!*out)
    return LS_ENOMEM;
  (*out)->algorithm = algorithm;
  return LS_OK;
}

ls_code ls_jws_key_secret(ls_jws_key **out, ls_str secret)
{
  ls_code code;

  *out = NULL;
  if(secret.n < LS_JWS_SECRET_MIN)
    return LS_ELIMIT;
  code = new_key(out, LS_JWS_HS256);
  if(!code)
    ls_hmac_init(&(*out)->hmac, secret.p, secret.n);
  return code;
}

/* Takes the key over, if it is what the algorithm wants. */
static ls_code adopt(ls_jws_key **out, ls_jws_algorithm algorithm,
                     EVP_PKEY *pkey)
{
  ls_code code = LS_EINVAL;
  char group[32];
  size_t n;

  if(!pkey) {
    ERR_clear_error();
    return LS_EPARSE;
  }
  switch(algorithm) {
  case LS_JWS_RS256:
    if(EVP_PKEY_is_a(pkey, "RSA"))
      code = EVP_PKEY_get_bits(pkey) < LS_JWS_RSA_BITS_MIN ? LS_ELIMIT : LS_OK;
    break;
  case LS_JWS_ES256:
    if(EVP_PKEY_is_a(pkey, "EC") &&
       EVP_PKEY_get_group_name(pkey, group, sizeof(group), &n) == 1 &&
       !strcmp(group, SN_X9_62_prime256v1))
      code = LS_OK;
    break;
  case LS_JWS_EDDSA:
    if(EVP_PKEY_is_a(pkey, "ED25519"))
      code = LS_OK;
    break;
  case LS_JWS_HS256:
    break;
  }
  if(!code)
    code = new_key(out, algorithm);
  if(code)
    EVP_PKEY_free(pkey);
  else
    (*out)->pkey = pkey;
  ERR_clear_error();
  return code;
}

/* A key that needs a password is none: OpenSSL would ask for it on the
 * terminal, or read it from standard input. */
static int no_password(char *to, int size, int writing, void *arg)
{
  (void)to;
  (void)size;
  (void)writing;
  (void)arg;
  return -1;
}

ls_code ls_jws_key_pem(ls_jws_key **out, ls_jws_algorithm alg, ls_str pem)
{
  EVP_PKEY *pkey = NULL;
  BIO *bio;

  *out = NULL;
  if(pem.n > INPUT_MAX)
    return LS_EPARSE;
  bio = BIO_new_mem_buf(pem.p, (int)pem.n);
  if(!bio)
    return LS_ENOMEM;
  pkey = PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL);
  BIO_free(bio);
  return adopt(out, alg, pkey);
}

/* A public key of a type from its parameters; NULL when they are none. */
static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *build)
{
  OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
  EVP_PKEY *pkey = NULL;

  if(params && ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
     EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
    pkey = NULL;
  EVP_PKEY_CTX_free(ctx);
  OSSL_PARAM_free(params);
  return pkey;
}

ls_code ls_jws_key_rsa(ls_jws_key **out, ls_str n, ls_str e)
{
  OSSL_PARAM_BLD *build = NULL;
  EVP_PKEY *pkey = NULL;
  BIGNUM *bn_n = NULL, *bn_e = NULL;

  *out = NULL;
  if(!n.n || !e.n || n.n > INPUT_MAX || e.n > 8)
    return LS_EPARSE;
  build = OSSL_PARAM_BLD_new();
  bn_n = BN_bin2bn((const unsigned char *)n.p, (int)n.n, NULL);
  bn_e = BN_bin2bn((const unsigned char *)e.p, (int)e.n, NULL);
  if(build && bn_n && bn_e && BN_is_odd(bn_e) && !BN_is_one(bn_e) &&
     OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, bn_n) &&
     OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, bn_e))
    pkey = from_params("RSA", build);
  OSSL_PARAM_BLD_free(build);
  BN_free(bn_n);
  BN_free(bn_e);
  return adopt(out, LS_JWS_RS256, pkey);
}

ls_code ls_jws_key_p256(ls_jws_key **out, ls_str x, ls_str y)
{
  unsigned char point[1 + 2 * P256_SIZE];
  OSSL_PARAM_BLD *build;
  EVP_PKEY *pkey = NULL;

  *out = NULL;
  if(x.n != P256_SIZE || y.n != P256_SIZE)
    return LS_EPARSE;
  point[0] = 4; /* both coordinates follow */
  memcpy(point + 1, x.p, P256_SIZE);
  memcpy(point + 1 + P256_SIZE, y.p, P256_SIZE);
  build = OSSL_PARAM_BLD_new();
  if(build &&
     OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME,
                                     SN_X9_62_prime256v1, 0) &&
     OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point,
                                      sizeof(point)))
    pkey = from_params("EC", build);
  OSSL_PARAM_BLD_free(build);
  return adopt(out, LS_JWS_ES256, pkey);
}

ls_code ls_jws_key_ed25519(ls_jws_key **out, ls_str x)
{
  *out = NULL;
  if(x.n != ED25519_SIZE)
    return LS_EPARSE;
  return adopt(out, LS_JWS_EDDSA,
               EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
                                           (const unsigned char *)x.p, x.n));
}

void ls_jws_key_free(ls_jws_key *key)
{
  if(!key)
    return;
  EVP_PKEY_free(key->pkey);
  ls_wipe(key, sizeof(*key));
  free(key);
}

ls_jws_algorithm ls_jws_key_algorithm(const ls_jws_key *key)
{
  return key->algorithm;
}

/* ES256 has the two numbers side by side, OpenSSL wants them in DER. The
 * result is OpenSSL's, its length in *n; NULL when memory is short. */
static unsigned char *to_der(ls_str signature, int *n)
{
  const unsigned char *p = (const unsigned char *)signature.p;
  ECDSA_SIG *sig = ECDSA_SIG_new();
  BIGNUM *r = BN_bin2bn(p, P256_SIZE, NULL);
  BIGNUM *s = BN_bin2bn(p + P256_SIZE, P256_SIZE, NULL);
  unsigned char *der = NULL;

  *n = -1;
  if(sig && r && s && ECDSA_SIG_set0(sig, r, s)) {
    r = s = NULL; /* the signature has them now */
    *n = i2d_ECDSA_SIG(sig, &der);
  }
  BN_free(r);
  BN_free(s);
  ECDSA_SIG_free(sig);
  return *n < 0 ? NULL : der;
}

static ls_code evp_verify(const ls_jws_key *key, ls_str data,
                          const unsigned char *signature, size_t n)
{
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  const EVP_MD *md = key->algorithm == LS_JWS_EDDSA ? NULL : EVP_sha256();
  ls_code code = LS_ESIG;

  if(!ctx)
    return LS_ENOMEM;
  if(EVP_DigestVerifyInit(ctx, NULL, md, NULL, key->pkey) == 1 &&
     EVP_DigestVerify(ctx, signature, n, (const unsigned char *)data.p,
                      data.n) == 1)
    code = LS_OK;
  EVP_MD_CTX_free(ctx);
  ERR_clear_error();
  return code;
}

ls_code ls_jws_verify(const ls_jws_key *key, ls_str data, ls_str signature)
{
  unsigned char mac[LS_SHA256_SIZE];
  unsigned char *der;
  ls_code code;
  int n;

  switch(key->algorithm) {
  case LS_JWS_HS256:
    ls_hmac_sign(&key->hmac, data.p, data.n, mac);
    code = ls_equal((ls_str){ (const char *)mac, sizeof(mac) }, signature) ?
      LS_OK : LS_ESIG;
    ls_wipe(mac, sizeof(mac));
    return code;
  case LS_JWS_ES256:
    if(signature.n != 2 * P256_SIZE)
      return LS_ESIG;
    der = to_der(signature, &n);
    if(!der)
      return LS_ENOMEM;
    code = evp_verify(key, data, der, (size_t)n);
    OPENSSL_free(der);
    return code;
  case LS_JWS_RS256:
  case LS_JWS_EDDSA:
    break;
  }
  return evp_verify(key, data, (const unsigned char *)signature.p,
                    signature.n);
}
