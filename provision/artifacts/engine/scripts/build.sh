# shellcheck shell=sh
# After the functions of `explain.sh` or `install.sh`. Standard input must stay open; the last line of output
# is `wheel NAME`. `nvcc` is empty without GPUs.

: "${folder?}" "${free_mb?}" "${memory?}" "${sdist?}" "${tools?}" "${out?}" "${cmake_args?}" "${targets?}"
: "${epoch?}" "${variants?}" "${nvcc?}" "${compiler?}"
set -eu
export LC_ALL=C
exec 3<&0 </dev/null
cd "$folder"
folder=$PWD
fail() { echo "clawd: $1"; exit 1; }
# shellcheck disable=SC2329  # called by the trap
finish() {
    status=$?
    trap '' HUP INT TERM PIPE
    trap - EXIT
    cd "$folder"
    clean
    [ "$status" = 0 ] || rm -rf "$folder"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' HUP INT TERM PIPE
(cat <&3 >/dev/null; kill -TERM 0) >/dev/null 2>&1 &

free=$(df -Pm . | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$free_mb" ] || fail "/var/tmp has $free MB free; the build needs $free_mb"
command -v g++ >/dev/null 2>&1 || bring 'C++ compiler' g++
if [ "$nvcc" ] && [ ! -x "$nvcc" ]; then
    add_repository
    # shellcheck disable=SC2086  # a list of words
    bring 'CUDA compiler' $compiler
fi
mkdir source tools tmp "$out"
tar -xzf "$sdist" -C source --strip-components=1 --no-same-owner
tar -xzf "$tools" -C tools --strip-components=1 --no-same-owner
jobs=$(awk -v cores="$(nproc)" -v memory="$memory" '/^MemAvailable/ {
    n = int($2 / memory); if (n > cores) n = cores; print (n < 1 ? 1 : n) }' /proc/meminfo)
echo "building with $jobs jobs"
cd source
sed -i 's/set(LLAMA_BUILD_COMMON ON /set(LLAMA_BUILD_COMMON OFF /' CMakeLists.txt
# llama.cpp has no setting for some of its variants: the lines that add the others are removed.
[ ! "$variants" ] || sed -i -E "/^ *ggml_add_cpu_backend_variant\\(/{/\\(($variants)[ )]/!d}" \
    vendor/llama.cpp/ggml/src/CMakeLists.txt
# GCC's intrinsic reads 8 of the 64 bytes, so GCC drops the assignments to the others as unused, and processors
# with AMX end the engine with SIGILL.
sed -i 's/_tile_loadconfig(&tc);/__asm__ volatile("ldtilecfg %0" : : "m"(tc));/' \
    vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp
status=0
env TMPDIR="$folder/tmp" PYTHONPATH="$folder/tools" \
    PATH="$folder/tools/bin:$folder/tools/cmake/data/bin:$PATH" \
    CC=gcc CXX=g++ CFLAGS="-ffile-prefix-map=$folder=." CXXFLAGS="-ffile-prefix-map=$folder=." LDFLAGS= \
    CMAKE_ARGS="$cmake_args" CMAKE_GENERATOR=Ninja CMAKE_BUILD_PARALLEL_LEVEL="$jobs" \
    SKBUILD_BUILD_TARGETS="$targets" SKBUILD_BUILD_DIR="$folder/build" SOURCE_DATE_EPOCH="$epoch" \
    nice -n 10 python3 -B -s -c '
import sys
from scikit_build_core.build import build_wheel
name = build_wheel(sys.argv[1], {"cmake.verbose": "false"})
print("wheel", name, flush=True)
' "$folder/$out" 2>&1 || status=$?
exit $status
