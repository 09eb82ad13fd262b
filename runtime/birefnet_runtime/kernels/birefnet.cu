// Every kernel, one translation unit: nvcc or NVRTC makes one cubin and one PTX of it. launches.py
// holds the grids and the arguments, tests/helpers/reference.py a NumPy twin of each kernel with
// the same bits. Grids have one dimension; sizes are 32-bit, offsets 64-bit; blocks are of the size
// that __launch_bounds__ names. The caller owns all memory.
#include "foreground.h"
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

// src: uint8 [rows,out_w,3] -> dst: float32 [3,out_h,out_w], through levels: float32 [3,256]; rows
// of dst are `pitch` floats apart and its planes `plane`. bounds: int32 [out_h,2]; weights: int32
// [taps,out_h].
extern "C" __global__ void __launch_bounds__(kAbreast)
    resize_columns(const u8* __restrict__ src, int out_w, int out_h, const int* __restrict__ bounds,
                   const int* __restrict__ weights, const float* __restrict__ levels,
                   float* __restrict__ dst, int pitch, i64 plane) {
    const int tiles = (out_w + kAbreast - 1) / kAbreast;
    const int block = static_cast<int>(blockIdx.x);
    const int x = block % tiles * kAbreast + static_cast<int>(threadIdx.x), y = block / tiles;
    if (x >= out_w) return;
    const Column pixels = {src + 3 * x, out_w};
    const Sum sum = weigh(pixels, bounds, weights, y, out_h);
    float* out = dst + static_cast<i64>(y) * pitch + x;
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

// The small levels, in one block: rgb as above, alpha uint8 [height,width]; `levels` levels of at
// most 32 pixels a side, down to level `last`, each swept `sweeps` times. scratch: float32
// [2,6,kSmallPixels]. plates: uint32 [2,h,w] of the last, 10 bits a colour: F, then B.
extern "C" __global__ void __launch_bounds__(kSmallPixels)
    colours_coarse(const u8* __restrict__ rgb, i64 pitch, int channels,
                   const u8* __restrict__ alpha, int height, int width, int levels, int last,
                   int sweeps, float* scratch, u32* __restrict__ plates) {
    __shared__ int sums[8];
    const int thread = static_cast<int>(threadIdx.x);
    const Subject subject = {rgb, pitch, channels, alpha, height, width};
    // Two phases that sum up, the sweeps, and one phase that packs.
    BIREFNET_PHASES(phase, levels * sweeps + 3) {
        const int done = greater(phase - 2, 0);
        const bool packs = done == levels * sweeps;
        const int level = packs || phase < 2 ? last : last + levels - 1 - done / sweeps;
        const int w = side_of(width, level), h = side_of(height, level);
        const int x = thread % w, y = thread / w;
        const float* values = scratch + (phase & 1) * 6 * kSmallPixels;
        if (phase == 0) {
            if (thread < 8) sums[thread] = 0;
        } else if (y >= h) {
            // More threads than pixels.
        } else if (phase == 1) {
            count_sure(subject.pixel(x, y, level), sums);
        } else if (packs) {
            const float* value = values + thread;
            for (int plate = 0; plate < 2; ++plate, value += 3 * kSmallPixels) {
                plates[plate * w * h + thread] =
                    pack(value[0], value[kSmallPixels], value[2 * kSmallPixels]);
            }
        } else {
            const int shift = done % sweeps == 0;
            const Small small = {&subject, done ? values : nullptr, sums,
                                 level,    shift, side_of(width, level + shift)};
            float out[6];
            sweep(small, x, y, w, h, out);
            float* to = scratch + (1 - (phase & 1)) * 6 * kSmallPixels + thread;
#pragma unroll
            for (int of = 0; of < 6; ++of) to[of * kSmallPixels] = out[of];
        }
    }
}

// Two sweeps of a level, a block for each pane. before: uint32 [2,h,w] as colours_coarse writes it,
// of the same level or, with a shift of 1, the one before; plates: uint32 [2,h,w]. A pane with no
// soft pixel in it or two round it is not swept.
extern "C" __global__ void __launch_bounds__(kPaneThreads, 4)
    colours_level(const u8* __restrict__ rgb, i64 pitch, int channels,
                  const u8* __restrict__ alpha, int height, int width, int level, int shift,
                  const u32* __restrict__ before, u32* __restrict__ plates) {
    __shared__ u32 pixels[Cells<2>::kCount];
    __shared__ float old[6 * Cells<2>::kCount];
    __shared__ float between[6 * Cells<1>::kCount];
    __shared__ int any;
    const int thread = static_cast<int>(threadIdx.x);
    const int w = side_of(width, level), h = side_of(height, level);
    const Subject subject = {rgb, pitch, channels, alpha, height, width};
    const Plates known = {before, side_of(height, level + shift), side_of(width, level + shift),
                          shift};
    const Place at(static_cast<int>(blockIdx.x), w, h);
    BIREFNET_PHASES(phase, 5) {
        if (phase == 0) {
            any = 0;
        } else if (phase == 1) {
            gather<2>(subject, level, at, thread, pixels, &any);
        } else if (phase == 2) {
            if (any) recall<2>(known, at, thread, old);
        } else if (phase == 3) {
            const Pane<2, 2> pane = {pixels, old, &at};
            if (any) sweep_round(pane, thread, between);
        } else {
            const Pane<2, 1> pane = {pixels, between, &at};
            for (int i = thread; i < kPaneWidth * kPaneHeight; i += kPaneThreads) {
                const int x = at.left + i % kPaneWidth, y = at.top + i / kPaneWidth;
                if (!at.inside(x, y)) continue;
                u32 front, back;
                if (any) {
                    float out[6];
                    sweep(pane, x, y, w, h, out);
                    front = pack(out[0], out[1], out[2]);
                    back = pack(out[3], out[4], out[5]);
                } else {
                    front = settled(known, 0, x, y, pane.pixel(x, y));
                    back = settled(known, 1, x, y, pane.pixel(x, y));
                }
                const i64 to = static_cast<i64>(y) * w + x;
                plates[to] = front;
                plates[static_cast<i64>(h) * w + to] = back;
            }
        }
    }
}

// One sweep of the level of the picture's own size, and the image of it by `mode` and `colour` as
// cutout writes it, or 3: RGBA with colours multiplied by alpha, 4: RGB, 5: RGBA that keeps colours
// under an alpha of 0. only: uint8 [height,width,3], the colours once more, or null. before: as
// above; with a shift of 0 no sweep is left to be done, and null keeps the picture's colours. Where
// alpha is 0 or 255 these stay in any case.
extern "C" __global__ void __launch_bounds__(kPaneThreads, 4)
    colours_image(const u8* __restrict__ rgb, i64 pitch, int channels,
                  const u8* __restrict__ alpha, int height, int width, int shift,
                  const u32* __restrict__ before, int mode, int colour, u8* __restrict__ image,
                  u8* __restrict__ only) {
    __shared__ u32 pixels[Cells<1>::kCount];
    __shared__ float old[6 * Cells<1>::kCount];
    __shared__ int any;
    const int thread = static_cast<int>(threadIdx.x);
    const Subject subject = {rgb, pitch, channels, alpha, height, width};
    const Plates known = {before, side_of(height, shift), side_of(width, shift), shift};
    const Place at(static_cast<int>(blockIdx.x), width, height);
    const Target to = {mode, colour, image, nullptr};
    const Pane<1, 1> pane = {pixels, old, &at};
    BIREFNET_PHASES(phase, 4) {
        if (phase == 0) {
            any = 0;
        } else if (phase == 1) {
            gather<1>(subject, 0, at, thread, pixels, &any);
        } else if (phase == 2) {
            if (any && before && shift) recall<1>(known, at, thread, old);
        } else {
            for (int i = thread; i < kPaneWidth * kPaneHeight; i += kPaneThreads) {
                const int x = at.left + i % kPaneWidth, y = at.top + i / kPaneWidth;
                if (!at.inside(x, y)) continue;
                const u32 pixel = pane.pixel(x, y);
                u32 found = pixel & 0xffffff;
                if (before && soft(pixel)) found = own_colours(pane, known, x, y);
                const i64 target = static_cast<i64>(y) * width + x;
                write_image(to, target, found, static_cast<int>(pixel >> 24));
                if (only) write_colours(only, target, found);
            }
        }
    }
}
