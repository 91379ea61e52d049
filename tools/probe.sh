#!/bin/sh
# Finds out once which flags this compiler takes and where the libraries are; prints make variables.
# usage: CC='COMPILER [FLAG...]' tools/probe.sh [SANITIZER,...]
set -eu
sanitize=${1:-}
CC=${CC:-gcc}

fail() {
    echo "$1; \`make deps\` installs what the build needs" >&2
    exit 1
}

command -v "${CC%% *}" >/dev/null || fail "$CC is missing"
command -v pkg-config >/dev/null || fail "pkg-config is missing"
command -v protoc-c >/dev/null || fail "protoc-c is missing"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo 'int main(void) { return 0; }' >"$work/probe.c"

# Prints those of the flags that the compiler takes without a word.
accepted() {
    for flag; do
        if $CC -Werror -O2 "$flag" "$work/probe.c" -o "$work/probe" 2>/dev/null; then
            printf ' %s' "$flag"
        fi
    done
}

# The runtimes of the address sanitizer, for a program that was built without: clang's, else gcc's.
preloaded() {
    for names in "libclang_rt.asan-$(uname -m).so" 'libasan.so libubsan.so'; do
        found=
        for name in $names; do
            path=$($CC -print-file-name="$name")
            [ "$path" = "$name" ] || found="$found${found:+:}$path"
        done
        [ -z "$found" ] || break
    done
    printf '%s' "$found"
}

packages() {
    for name; do
        pkg-config --exists "$name" || fail "the development files of $name are missing"
    done
    pkg-config --libs "$@"
}

printf 'WARNINGS :=%s\n' "$(accepted -Wall -Wextra -Wformat=2 -Wconversion -Wimplicit-fallthrough)"
hardening=$(accepted -fstack-clash-protection -fstack-protector-strong -fcf-protection=full \
    -ftrivial-auto-var-init=zero -fno-semantic-interposition)
if [ -n "$sanitize" ]; then # the sanitizers do not see through the checked variants of libc
    hardening="$hardening -fsanitize=$sanitize -fno-sanitize-recover=all -fno-omit-frame-pointer"
    # Shared, gcc's two runtimes do not share log_path.
    printf 'SANITIZE_STATIC :=%s\n' "$(accepted -static-libasan -static-libubsan -static-libtsan)"
    printf 'SANITIZE_PRELOAD := %s\n' "$(preloaded)"
    # Where gcc 12 watches for uses after return, a frame is aligned to 32 bytes at most.
    printf 'ALIGNED_FRAMES :=%s\n' "$(accepted --param=asan-use-after-return=0)"
else
    hardening="$hardening -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3"
fi
printf 'HARDENING :=%s\n' "$hardening"
printf 'LINK_HARDENING :=%s\n' \
    "$(accepted -Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now -Wl,--as-needed)"
client=$(packages libprotobuf-c libssl libcrypto)
cli=$(packages libprotobuf-c inih jansson libssl libcrypto)
daemon=$(packages libprotobuf-c libuv inih libxxhash libsystemd libssl libcrypto libzstd libmicrohttpd jansson)
printf 'CLIENT_LIBS := %s\nCLI_LIBS := %s\nDAEMON_LIBS := %s\n' "$client" "$cli" "$daemon"
