#!/bin/sh
# Coverage-guided fuzzing by jazzer.js: test/fuzz/jazzer.sh <target> <seconds> [corpus folder]
#
# jazzer.js is no dependency of this project: its prebuilt fuzzer needs glibc 2.38 (Debian 13; Debian 12 has 2.36). Where
# the system is older, run this in a Debian 13 root (debootstrap trixie), with Node and a copy of this folder in it.
# JAZZER is where `npm i @jazzer.js/core@4.0.0` was run.
set -eu
target=$1
seconds=$2
corpus=${3:-.tmp/corpus/$target}
jazzer=${JAZZER:-/tmp/jazzer}
mkdir -p .tmp/jazzer "$corpus"
# CommonJS, everything in one file: jazzer.js instruments what `require` loads.
npx esbuild test/fuzz/jazzer.ts --bundle --platform=node --target=node20.19 --format=cjs \
  --log-level=error --outfile=.tmp/jazzer/fuzz.cjs
FUZZ_TARGET=$target FUZZ_CORPUS=$corpus exec "$jazzer/node_modules/.bin/jazzer" .tmp/jazzer/fuzz.cjs "$corpus" \
  --includes=.tmp/jazzer/fuzz.cjs --timeout=20000 -- -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=2048
