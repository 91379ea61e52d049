#!/bin/sh
# Installs what is missing, and only that: Debian packages, then the virtual environment build/venv
# (hf: build/venv-hf, llama: build/venv-llama, hosts: build/venv-hosts).
# usage: tools/bootstrap.sh SET...: build lint test model embeddings hf llama hosts browser promtool bench hnswlib peers fuzz analyse deb packages aarch64 tiny systemd
# The settings of apt and pip on this machine (PIP_*, pip.conf, sources.list) hold as they are.
set -eu
cd "$(dirname "$0")/.."

VENV=build/venv
PYTHON=${PYTHON:-/usr/bin/python3}
# What is linked: for aarch64 the same packages of that architecture, in a folder of their own.
build_libraries='libc6-dev libprotobuf-c-dev libuv1-dev libinih-dev libxxhash-dev libssl-dev libsystemd-dev libzstd-dev libjansson-dev libmicrohttpd-dev'
test_libraries='check libsubunit-dev'
build_packages="gcc make pkg-config protobuf-c-compiler $build_libraries"
test_packages="$test_libraries groff-base openssl python3 python3-dev python3-venv"
tiny_packages='gcc-arm-none-eabi qemu-system-arm python3'
aarch64_packages='gcc-aarch64-linux-gnu qemu-user python3'
lint_packages='check clang clang-format clang-tidy libsubunit-dev python3'
model_packages='python3 python3-dev python3-venv'
hf_packages=$model_packages
llama_packages="g++ $model_packages"
hosts_packages=$model_packages
browser_packages='chromium-headless-shell' # looks at reports
systemd_packages='debootstrap e2fsprogs qemu-system-x86' # a guest boots
bench_packages='python3'
hnswlib_packages='g++ libhnswlib-dev' # a retriever plugin is built where they are
fuzz_packages='clang libclang-rt-dev'
analyse_packages='cppcheck'
deb_packages="build-essential check debhelper dh-python libsubunit-dev lintian python3-cffi python3-dev python3-setuptools"
packages_packages='debootstrap lintian buildah'
peers_packages='redis-server memcached' # started by the bench itself, with settings of its own

# Of the packages given, those that are not installed.
missing() {
    dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
        awk -v wanted="$*" '$2 == "installed" { have[$1] = 1 }
            END { n = split(wanted, names, " ")
                  for (i = 1; i <= n; i++) if (!have[names[i]]) print names[i] }'
}

install_packages() {
    if ! command -v dpkg-query >/dev/null; then
        echo "not a Debian system; install what stands for: $*" >&2
        return
    fi
    packages=$(missing "$@" | sort -u)
    [ -n "$packages" ] || return 0
    packages=$(echo $packages)
    as_root=
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "missing packages; as root: apt-get install $packages" >&2
            exit 1
        fi
        as_root=sudo
    fi
    echo "installing $packages"
    log=$(mktemp)
    # $packages is a list: it is meant to be split.
    if ! { $as_root apt-get update -q &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends $packages; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
}

# Installs a list of requirements once, $2 being options of pip; a changed list is installed anew.
install_python() {
    list=tools/requirements-$1.txt stamp=$VENV/.installed-$1
    if [ ! -x $VENV/bin/pip ]; then
        "$PYTHON" -m venv $VENV
    fi
    if ! cmp -s "$list" "$stamp"; then
        echo "installing the Python packages of $list"
        # Every line names all it needs, so that nobody is made to download more than is used.
        $VENV/bin/pip install -qq --no-deps ${2:-} -r "$list"
        cp "$list" "$stamp"
    fi
}

# torch and transformers, and beside them transformers 4 with what is older for it.
install_hf() {
    VENV=build/venv-hf
    install_python python && install_python hf &&
        install_python hf-4 "--target $VENV/transformers-4 --upgrade" && complete_torch hf
}

# The interfaces of inference engines, with torch.
install_hosts() {
    VENV=build/venv-hosts
    install_python python && install_python hosts && complete_torch hosts
}

# What PyPI has of torch for x86-64 asks for libraries of NVIDIA's, which a CPU build does without.
complete_torch() {
    $VENV/bin/python -c 'import torch' 2>/dev/null ||
        $VENV/bin/pip install -qq --force-reinstall "$(grep '^torch==' tools/requirements-$1.txt)"
}

# llama-cpp-python, and the server of llama.cpp.
install_llama() {
    VENV=build/venv-llama
    install_python python && install_python llama && tools/llama.sh
}

# promtool alone: the package would start a server.
install_promtool() {
    folder=build/promtool
    [ ! -x $folder/usr/bin/promtool ] || return 0
    echo "fetching promtool"
    mkdir -p $folder && (cd $folder && apt-get -qq download prometheus &&
        dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb)
}

[ $# -gt 0 ] || { sed -n '4p' "$0" | cut -c3- >&2; exit 2; }
all=
for set; do
    case $set in
    build) all="$all $build_packages" ;;
    lint) all="$all $lint_packages" ;;
    test) all="$all $test_packages" ;;
    model | embeddings) all="$all $model_packages" ;;
    hf) all="$all $hf_packages" ;;
    llama) all="$all $llama_packages" ;;
    hosts) all="$all $hosts_packages" ;;
    browser) all="$all $browser_packages" ;;
    promtool) ;;
    bench) all="$all $bench_packages" ;;
    hnswlib) all="$all $hnswlib_packages" ;;
    peers) all="$all $peers_packages" ;;
    fuzz) all="$all $fuzz_packages" ;;
    analyse) all="$all $analyse_packages" ;;
    deb) all="$all $deb_packages" ;;
    packages) all="$all $packages_packages" ;;
    tiny) all="$all $tiny_packages" ;;
    systemd) all="$all $systemd_packages" ;;
    aarch64) all="$all $aarch64_packages" ;;
    *) echo "no such set: $set" >&2; exit 2 ;;
    esac
done
install_packages $all
for set; do
    case $set in
    test | model | embeddings | packages) install_python python && install_python "$set" ;;
    hf) install_hf ;;
    llama) install_llama ;;
    hosts) install_hosts ;;
    promtool) install_promtool ;;
    aarch64) tools/sysroot.sh arm64 build/aarch64/sysroot $build_libraries $test_libraries ;;
    esac
done
