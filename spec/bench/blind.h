/* Reading TLS 1.3 without decrypting what is thrown away: for the sink.
 *
 * A server that decrypts every byte only to drop it costs as much as the
 * client that encrypts it, and on one machine takes the client's time. The
 * handshake and all writing are OpenSSL's; what the client sends afterwards is
 * read here: the records' headers are in the clear and say how long each is,
 * so a body is counted off by them, and only the records that hold the heads
 * of requests are decrypted, with the key that OpenSSL hands out for logging.
 * The client cannot tell the difference.
 */
#ifndef BLIND_H
#define BLIND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

#define BLIND_BUFFER 262144
#define BLIND_OVERHEAD 17        /* the tag, and the type inside */

struct blind {
  int fd;
  EVP_CIPHER_CTX *cipher;
  unsigned char iv[12];
  uint64_t sequence;             /* of the next record */
  size_t start, size;            /* what waits in data */
  unsigned char data[BLIND_BUFFER];
};

static int blind_index = -1;     /* of the secret in an SSL */

/* OpenSSL's key log: "CLIENT_TRAFFIC_SECRET_0 random secret", in hex. */
static void blind_log(const SSL *ssl, const char *line)
{
  const char *secret = strrchr(line, ' ');

  if(!strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) && secret)
    SSL_set_ex_data((SSL *)ssl, blind_index, strdup(secret + 1));
}

static void blind_prepare(SSL_CTX *context)
{
  blind_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
  SSL_CTX_set_keylog_callback(context, blind_log);
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context,
                           "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256");
}

/* RFC 8446, HKDF-Expand-Label with an empty context; one block is enough. */
static void blind_expand(const EVP_MD *md, const unsigned char *secret,
                         size_t secret_length, const char *label,
                         unsigned char *to, size_t n)
{
  unsigned char info[64], block[EVP_MAX_MD_SIZE];
  size_t length = strlen(label);
  unsigned got;

  info[0] = 0;
  info[1] = (unsigned char)n;
  info[2] = (unsigned char)(6 + length);
  memcpy(info + 3, "tls13 ", 6);
  memcpy(info + 9, label, length);
  info[9 + length] = 0;
  info[10 + length] = 1;
  HMAC(md, secret, (int)secret_length, info, 11 + length, block, &got);
  memcpy(to, block, n);
}

/* Takes over reading from a connection whose handshake is done. NULL: it has
 * to be read by OpenSSL. */
static struct blind *blind_open(SSL *ssl, int fd)
{
  char *hex = SSL_get_ex_data(ssl, blind_index);
  const SSL_CIPHER *suite = SSL_get_current_cipher(ssl);
  bool big = suite && SSL_CIPHER_get_id(suite) == TLS1_3_CK_AES_256_GCM_SHA384;
  const EVP_MD *md = big ? EVP_sha384() : EVP_sha256();
  unsigned char secret[64], key[32];
  struct blind *b;
  size_t n;

  if(!hex)
    return NULL;
  b = calloc(1, sizeof(*b));
  for(n = 0; hex[2 * n] && n < sizeof(secret); n++)
    sscanf(hex + 2 * n, "%2hhx", &secret[n]);
  free(hex);
  blind_expand(md, secret, n, "key", key, big ? 32 : 16);
  blind_expand(md, secret, n, "iv", b->iv, 12);
  b->fd = fd;
  b->cipher = EVP_CIPHER_CTX_new();
  EVP_DecryptInit_ex(b->cipher, big ? EVP_aes_256_gcm() : EVP_aes_128_gcm(),
                     NULL, key, NULL);
  return b;
}

static void blind_close(struct blind *b)
{
  if(b)
    EVP_CIPHER_CTX_free(b->cipher);
  free(b);
}

/* At least n bytes in the buffer, or false at the end. */
static bool blind_have(struct blind *b, size_t n)
{
  while(b->size < n) {
    ssize_t got;

    if(b->start + n > BLIND_BUFFER || b->start > BLIND_BUFFER / 2) {
      memmove(b->data, b->data + b->start, b->size);
      b->start = 0;
    }
    got = recv(b->fd, b->data + b->start + b->size,
               BLIND_BUFFER - b->start - b->size, 0);
    if(got <= 0)
      return false;
    b->size += (size_t)got;
  }
  return true;
}

/* The length of the next record, header not counted; 0 at the end. */
static size_t blind_next(struct blind *b)
{
  const unsigned char *h;

  if(!blind_have(b, 5))
    return 0;
  h = b->data + b->start;
  return h[0] == 23 ? (size_t)h[3] << 8 | h[4] : 0;
}

/* Decrypts the next record into `to`; its length, or -1. */
static ssize_t blind_read(struct blind *b, void *to, size_t room)
{
  unsigned char plain[17000], nonce[12];
  size_t n = blind_next(b);
  unsigned char *record;
  int got, end, i;

  if(n < BLIND_OVERHEAD || n > sizeof(plain) || !blind_have(b, n + 5))
    return -1;
  record = b->data + b->start;
  memcpy(nonce, b->iv, 12);
  for(i = 0; i < 8; i++)
    nonce[11 - i] ^= (unsigned char)(b->sequence >> (8 * i));
  if(!EVP_DecryptInit_ex(b->cipher, NULL, NULL, NULL, nonce) ||
     !EVP_DecryptUpdate(b->cipher, NULL, &got, record, 5) ||
     !EVP_DecryptUpdate(b->cipher, plain, &got, record + 5, (int)n - 16) ||
     !EVP_CIPHER_CTX_ctrl(b->cipher, EVP_CTRL_GCM_SET_TAG, 16,
                          record + 5 + n - 16) ||
     EVP_DecryptFinal_ex(b->cipher, plain + got, &end) != 1)
    return -1;
  b->sequence++;
  b->start += n + 5;
  b->size -= n + 5;
  /* The type is inside: anything but data is a goodbye. */
  if(plain[got - 1] != 23 || (size_t)got - 1 > room)
    return -1;
  memcpy(to, plain, (size_t)got - 1);
  return got - 1;
}

/* Throws away records that lie wholly within n bytes of data. How many bytes
 * of data that was; *n is lowered by it. False at the end. */
static bool blind_skip(struct blind *b, unsigned long long *n)
{
  size_t length;

  while(*n && (length = blind_next(b)) != 0 && length >= BLIND_OVERHEAD &&
        length - BLIND_OVERHEAD <= *n) {
    if(!blind_have(b, length + 5))
      return false;
    b->start += length + 5;
    b->size -= length + 5;
    b->sequence++;
    *n -= length - BLIND_OVERHEAD;
  }
  return !*n || length;
}

#endif
