#!/bin/sh
# Makes a certificate authority and three certificates, for a day, to try the TLS
# example with: the server's, Patrol's, and the one that Envoy shows Patrol. Not for
# production: the authority's key stays beside the rest.
set -eu
umask 077
mkdir -p certs && cd certs

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/CN=example authority" \
  -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem 2>/dev/null

issue() { # name, subject alternative names, extended key usage
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=%s\n' "$2" "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile "$1.ext" -out "$1.pem" 2>/dev/null
  rm "$1.csr" "$1.ext"
}
issue server DNS:localhost,IP:127.0.0.1 serverAuth
issue patrol DNS:patrol serverAuth
issue envoy DNS:envoy clientAuth
