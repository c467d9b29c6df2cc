#!/bin/sh
# SoftHSM in a process of its own, behind the socket of p11-kit: who reaches the socket and knows the PIN uses the keys, and the
# files that the keys are in are seen by this process alone. For tests: both PINs pass through the arguments of softhsm2-util.
set -eu
home=/var/lib/hsm
export SOFTHSM2_CONF=$home/softhsm2.conf
if [ ! -f $home/made ]; then
  # What a start that was ended in between has left: a token whose PIN nobody knows.
  rm -rf $home/tokens
  mkdir $home/tokens
  printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' $home/tokens > $SOFTHSM2_CONF
  softhsm2-util --init-token --free --label issuer \
    --so-pin "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" --pin "$(cat /run/secrets/token-pin)"
  touch $home/made
fi
rm -f /run/hsm/pkcs11
exec p11-kit server --foreground --name /run/hsm/pkcs11 --provider /usr/lib/softhsm/libsofthsm2.so pkcs11:token=issuer
