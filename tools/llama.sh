#!/bin/sh
# Puts llama.cpp into build/venv-llama: llama-cpp-python's sdist has its source. Its library is
# built once, with as little as it needs (minutes on two cores), and the Python package on it.
set -eu
cd "$(dirname "$0")/.."

VERSION=0.3.36
VENV=build/venv-llama
FOLDER=build/llama.cpp
SOURCE=$FOLDER/src
OPTIONS='-DCMAKE_BUILD_TYPE=Release -DLLAMA_OPENSSL=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
    -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_COMMON=OFF'
# Half the time of -O2, for what hardly counts: the arithmetic is in C, with -O3.
CXX_FLAGS='-O1 -finline-functions -finline-small-functions -DNDEBUG'

[ "$(cat $VENV/.llama.cpp 2>/dev/null)" != $VERSION ] || exit 0
PATH=$PWD/$VENV/bin:$PATH
if [ ! -f $FOLDER/llama_cpp_python-$VERSION.tar.gz ]; then
    $VENV/bin/pip download -qq --no-deps --no-build-isolation --no-binary llama-cpp-python \
        --dest $FOLDER llama-cpp-python==$VERSION
fi
if [ ! -f $SOURCE/.unpacked-$VERSION ]; then
    rm -rf $SOURCE
    mkdir -p $SOURCE
    tar xzf $FOLDER/llama_cpp_python-$VERSION.tar.gz -C $SOURCE --strip-components=1
    touch $SOURCE/.unpacked-$VERSION
fi
echo "building llama.cpp of llama-cpp-python $VERSION in $FOLDER (its log is in $FOLDER/log)"
# $OPTIONS is a list: it is meant to be split.
if ! { cmake -G Ninja -S $SOURCE/vendor/llama.cpp -B $FOLDER/build $OPTIONS \
    "-DCMAKE_CXX_FLAGS_RELEASE=$CXX_FLAGS" &&
    nice ninja -C $FOLDER/build llama; } >$FOLDER/log 2>&1; then
    tail -n 30 $FOLDER/log >&2
    exit 1
fi
$VENV/bin/pip install -qq --no-deps --no-build-isolation --force-reinstall \
    --config-settings cmake.define.LLAMA_BUILD=OFF --config-settings cmake.define.LLAVA_BUILD=OFF $SOURCE
ln -sfn "$PWD/$FOLDER/build/bin" "$($VENV/bin/python -c \
    'import sysconfig; print(sysconfig.get_path("platlib"))')/llama_cpp/lib"
echo $VERSION >$VENV/.llama.cpp
