// Pillow's bilinear resize of 8-bit pictures, in its own fixed point: 8 bits after each pass,
// weights in units of 2^-22, rounded half up, clipped to 0..255. The weights come from the host
// (resample.py), so every bit is Pillow's, rows first. Source: Pillow, src/libImaging/Resample.c.
#pragma once
#include "common.h"

namespace birefnet {

constexpr int kPrecisionBits = 22;

// A block of resize_rows makes kTile columns of kRows rows and stages the pixels that they need: up
// to kStage per row, enough to scale down by 16 (64 * 16 and the filter's reach at both ends),
// 17 KiB in all, of which a multiprocessor of 100 KiB holds five. Wider spans are read where they
// lie.
constexpr int kTile = 64;
constexpr int kRows = 4;
constexpr int kStage = 1056;
// Columns of a block of resize_columns.
constexpr int kAbreast = 128;

// One colour's sum cannot overflow: weights are not negative and add up to 2^22 within half a unit
// per tap, times 255.
struct Sum {
    int red, green, blue;
};

BIREFNET_HD Sum start() {
    const int half = 1 << (kPrecisionBits - 1);
    Sum sum = {half, half, half};
    return sum;
}

// `pixel` holds the colours in its low 24 bits; the rest is not looked at.
BIREFNET_HD void accumulate(Sum& sum, int weight, u32 pixel) {
    sum.red += weight * static_cast<int>(pixel & 255);
    sum.green += weight * static_cast<int>(pixel >> 8 & 255);
    sum.blue += weight * static_cast<int>(pixel >> 16 & 255);
}

BIREFNET_HD int level(int sum) { return clamp(sum >> kPrecisionBits, 0, 255); }

// Where pixel i of a staged row lies: one word is left out after every 32, so that threads whose
// pixels are 2, 4, 8 or 16 apart do not meet in one of the 32 banks.
BIREFNET_HD int skew(int i) { return i + (i >> 5); }
constexpr int kStageWords = kStage + kStage / 32;

// The pixels of one row, from the picture itself.
struct Row {
    const u8* row;
    int channels;
    BIREFNET_HD u32 operator()(int i) const {
        return colours(row + static_cast<i64>(i) * channels);
    }
};

// The pixels of one column of uint8 [H,width,3]: `column` is its top.
struct Column {
    const u8* column;
    int width;
    BIREFNET_HD u32 operator()(int i) const {
        return colours(column + static_cast<i64>(i) * width * 3);
    }
};

// The pixels of one row, staged from `begin` on.
struct Staged {
    const u32* stage;
    int begin;
    BIREFNET_HD u32 operator()(int i) const { return stage[skew(i - begin)]; }
};

// Output `at` of `size`. bounds: [size,2]; weights: [taps,size].
template <class Pixels>
BIREFNET_HD Sum weigh(const Pixels& pixels, const int* bounds, const int* weights, int at,
                      int size) {
    const int first = bounds[2 * at], count = bounds[2 * at + 1];
    const int* weight = weights + at;
    Sum sum = start();
    for (int tap = 0; tap < count; ++tap, weight += size) {
        accumulate(sum, *weight, pixels(first + tap));
    }
    return sum;
}

// Pixels [begin, end) of a row to `stage`; thread `lane` of `lanes` does its share. `begin` is a
// multiple of 4, so that where the row starts on a word, four pixels of 3 bytes are three words.
// Nothing outside [begin, end) is read.
BIREFNET_HD void stage_row(const u8* row, int channels, int begin, int end, int lane, int lanes,
                           u32* stage) {
    const u8* from = row + static_cast<i64>(begin) * channels;
    const int count = end - begin;
    int done = 0;
    if (aligned(row, 4)) {
        const u32* words = reinterpret_cast<const u32*>(from);
        const int whole = channels == 4 ? count : count / 4 * 4;
        if (channels == 4) {
            for (int i = lane; i < whole; i += lanes) stage[skew(i)] = words[i];
        } else {
            for (int i = 4 * lane; i < whole; i += 4 * lanes) {
                const u32 a = words[i / 4 * 3], b = words[i / 4 * 3 + 1], c = words[i / 4 * 3 + 2];
                u32* to = stage + skew(i);
                to[0] = a;
                to[1] = a >> 24 | b << 8;
                to[2] = b >> 16 | c << 16;
                to[3] = c >> 8;
            }
        }
        done = whole;
    }
    for (int i = done + lane; i < count; i += lanes) {
        stage[skew(i)] = colours(from + static_cast<i64>(i) * channels);
    }
}

}  // namespace birefnet
