// birefnet.cu compiled as C++, and a launcher for it: every block and thread in turn, on the host.
//
// __syncthreads is two passes over a block: in the first a thread returns there, in the second it
// runs through, by when every thread has staged what it stages. Shared memory is filled with 0xA5
// before each block, so that a value nobody staged shows (but not under SANITIZED, where the
// compiler guards it instead). A kernel of phases is called for each of them, by every thread in turn.
#include <cstddef>
#include <cstring>
#include <utility>

struct Index {
    unsigned x, y, z;
};
static Index blockIdx, threadIdx;
static int pass, arrived, phase_now, phase_count;

#define __global__
#define __launch_bounds__(...)
#define __syncthreads()        \
    do {                       \
        ++arrived;             \
        if (pass == 0) return; \
    } while (0)
#define BIREFNET_PHASES(phase, count) \
    for (int phase = (phase_count = (count), phase_now), once = 1; once; once = 0)
static void atomicAdd(int* to, int value) { *to += value; }
#ifdef SANITIZED
#define __shared__ static
static void poison() {}
#else
#define __shared__ static __attribute__((section("birefnet_shared")))
extern "C" char __start_birefnet_shared[], __stop_birefnet_shared[];
static void poison() {
    std::memset(__start_birefnet_shared, 0xA5, __stop_birefnet_shared - __start_birefnet_shared);
}
#endif

#include "birefnet.cu"

template <class... Types, std::size_t... At>
static void call(void (*kernel)(Types...), void* const* args, std::index_sequence<At...>) {
    kernel(*static_cast<Types*>(args[At])...);
}

template <class... Types>
static bool run_block(void (*kernel)(Types...), const unsigned* block, void* const* args) {
    const int threads = static_cast<int>(block[0] * block[1]);
    arrived = threads;
    for (pass = 0; pass < 2 && arrived; ++pass) {
        arrived = 0;
        for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y) {
            for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x) {
                call(kernel, args, std::index_sequence_for<Types...>());
            }
        }
        if (arrived != 0 && arrived != threads) return false;
    }
    return true;
}

template <class... Types>
static bool launch(void (*kernel)(Types...), const unsigned* grid, const unsigned* block,
                   void* const* args) {
    for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) {
        poison();
        phase_count = 1;
        for (phase_now = 0; phase_now < phase_count; ++phase_now) {
            if (!run_block(kernel, block, args)) return false;
        }
    }
    return true;
}

// 0: done; 1: some threads of a block met a __syncthreads that others did not; 2: no such kernel,
// or a grid or block of more dimensions than the kernels use.
extern "C" int run(const char* name, const unsigned* grid, const unsigned* block,
                   void* const* args) {
    if (grid[1] != 1 || grid[2] != 1 || block[2] != 1) return 2;
    const auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
    if (is("resize_rows")) return !launch(resize_rows, grid, block, args);
    if (is("resize_columns")) return !launch(resize_columns, grid, block, args);
    if (is("activate")) return !launch(activate, grid, block, args);
    if (is("colours_coarse")) return !launch(colours_coarse, grid, block, args);
    if (is("colours_level")) return !launch(colours_level, grid, block, args);
    if (is("colours_image")) return !launch(colours_image, grid, block, args);
    if (is("cutout")) return !launch(cutout, grid, block, args);
    return 2;
}
