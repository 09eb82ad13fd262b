// Every kernel, one translation unit: nvcc or NVRTC makes one cubin and one PTX of it. launches.py
// holds the grids and the arguments, tests/helpers/reference.py a NumPy twin of each kernel with
// the same bits. Grids have one dimension; sizes are 32-bit, offsets 64-bit; blocks are of the size
// that __launch_bounds__ names. The caller owns all memory.
#include "compose.h"
#include "resize.h"

using namespace birefnet;

// src: uint8 [rows,?,channels], pitch bytes per row -> dst: uint8 [rows,out_w,3].
// bounds: int32 [out_w,2]; weights: int32 [taps,out_w].
extern "C" __global__ void __launch_bounds__(kTile* kRows)
    resize_rows(const u8* __restrict__ src, i64 pitch, int channels, int rows, int out_w,
                const int* __restrict__ bounds, const int* __restrict__ weights,
                u8* __restrict__ dst) {
    __shared__ u32 stage[kRows][kStageWords];
    const int tiles = (out_w + kTile - 1) / kTile;
    const int block = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
    const int left = block % tiles * kTile, x = left + thread;
    const int right = lesser(left + kTile, out_w) - 1;
    const int line = static_cast<int>(threadIdx.y), y = block / tiles * kRows + line;
    const int begin = bounds[2 * left] & ~3;
    const int end = bounds[2 * right] + bounds[2 * right + 1];
    const bool staged = end - begin <= kStage;
    const u8* row = src + y * pitch;
    if (staged && y < rows) stage_row(row, channels, begin, end, thread, kTile, stage[line]);
    __syncthreads();
    if (x >= out_w || y >= rows) return;
    Sum sum;
    if (staged) {
        const Staged pixels = {stage[line], begin};
        sum = weigh(pixels, bounds, weights, x, out_w);
    } else {
        const Row pixels = {row, channels};
        sum = weigh(pixels, bounds, weights, x, out_w);
    }
    u8* out = dst + (static_cast<i64>(y) * out_w + x) * 3;
    out[0] = static_cast<u8>(level(sum.red));
    out[1] = static_cast<u8>(level(sum.green));
    out[2] = static_cast<u8>(level(sum.blue));
}

// src: uint8 [rows,out_w,3] -> dst: float32 [3,out_h,out_w], through levels: float32 [3,256].
// bounds: int32 [out_h,2]; weights: int32 [taps,out_h].
extern "C" __global__ void __launch_bounds__(kAbreast)
    resize_columns(const u8* __restrict__ src, int out_w, int out_h, const int* __restrict__ bounds,
                   const int* __restrict__ weights, const float* __restrict__ levels,
                   float* __restrict__ dst) {
    const int tiles = (out_w + kAbreast - 1) / kAbreast;
    const int block = static_cast<int>(blockIdx.x);
    const int x = block % tiles * kAbreast + static_cast<int>(threadIdx.x), y = block / tiles;
    if (x >= out_w) return;
    const Column pixels = {src + 3 * x, out_w};
    const Sum sum = weigh(pixels, bounds, weights, y, out_h);
    const i64 plane = static_cast<i64>(out_h) * out_w;
    float* out = dst + static_cast<i64>(y) * out_w + x;
    out[0] = levels[level(sum.red)];
    out[plane] = levels[256 + level(sum.green)];
    out[2 * plane] = levels[512 + level(sum.blue)];
}

// values: float32 [count] -> alpha: float32 [count] in 0..1, which may be the same memory.
// activation: 0 none, 1 sigmoid. *bad becomes 1 when a value is not finite.
extern "C" __global__ void __launch_bounds__(kValues)
    activate(const float* values, int count, int activation, float* alpha, int* bad) {
    const i64 at = static_cast<i64>(blockIdx.x) * kValues + threadIdx.x;
    if (at >= count) return;
    const float value = values[at];
    // Every thread that writes writes the same.
    if (!finite(value)) *bad = 1;
    alpha[at] = clip(activation ? sigmoid(value) : value);
}

// alpha: float32 [h,w] in 0..1; rgb: uint8 [height,width,channels], pitch bytes per row, unread for
// a mask; own: null or one byte per pixel. down, across: inputs per output. mode 0: image uint8
// [height,width]; 1: straight RGBA, 4-byte aligned; 2: RGB over colour 0xRRGGBB. plane: uint8
// [height,width] or null.
extern "C" __global__ void __launch_bounds__(kColumns)
    cutout(const float* __restrict__ alpha, int h, int w, const u8* __restrict__ rgb, i64 pitch,
           int channels, const u8* __restrict__ own, i64 own_pitch, int own_step, int height,
           int width, double down, double across, int mode, int colour, u8* __restrict__ image,
           u8* __restrict__ plane) {
    __shared__ Taps rows[kStrip];
    const int tiles = (width + kColumns - 1) / kColumns;
    const int block = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
    const int x = block % tiles * kColumns + thread, top = block / tiles * kStrip;
    const int bottom = lesser(top + kStrip, height);
    const bool grows_down = height >= h, grows_across = width >= w;
    if (thread < bottom - top) {
        rows[thread] = grows_down ? cubic(top + thread, down) : area(top + thread, down, h);
    }
    __syncthreads();
    if (x >= width) return;
    const Taps column = grows_across ? cubic(x, across) : area(x, across, w);
    const Own mask = {own, own_pitch, own_step};
    const Target to = {mode, colour, image, plane};
#define BIREFNET_STRIP(across_grows, down_grows)                                                \
    strip<across_grows, down_grows>(alpha, h, w, rgb, pitch, channels, mask, to, width, x, top, \
                                    bottom, rows, column)
    if (grows_across && grows_down) {
        BIREFNET_STRIP(true, true);
    } else if (grows_across) {
        BIREFNET_STRIP(true, false);
    } else if (grows_down) {
        BIREFNET_STRIP(false, true);
    } else {
        BIREFNET_STRIP(false, false);
    }
#undef BIREFNET_STRIP
}
