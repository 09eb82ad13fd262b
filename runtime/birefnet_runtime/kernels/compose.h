// Alpha and the picture to what is written: the plane, straight RGBA, or RGB over a colour.
#pragma once
#include "alpha.h"

namespace birefnet {

constexpr int kMask = 0, kStraight = 1, kOver = 2;

// A block of cutout is kColumns threads, each of which walks down kStrip rows.
constexpr int kColumns = 128;
constexpr int kStrip = 8;

// A picture's own alpha: `pitch` bytes from row to row, `step` from pixel to pixel.
struct Own {
    const u8* plane;
    i64 pitch;
    int step;
};

// Half to even, once, after the picture's own alpha.
BIREFNET_HD int quantise(float alpha) { return round_int(mul(alpha, 255.0f)); }

BIREFNET_HD float share(float alpha, int own) {
    return mul(alpha, mul(static_cast<float>(own), 1.0f / 255));
}

// colour * a / 255 + behind * (255 - a) / 255, correctly rounded (refine.compose).
BIREFNET_HD int over(u32 colour, int behind, int a) {
    const int total = static_cast<int>(colour) * a + behind * (255 - a) + 128;
    return (total + (total >> 8)) >> 8;
}

// The four bytes of a straight RGBA pixel; no colour is kept where nothing is seen.
BIREFNET_HD u32 straight(u32 rgb, int a) {
    return a == 0 ? 0u : rgb | static_cast<u32>(a) << 24;
}

struct Target {
    int mode, colour;
    u8* image;
    u8* plane;
};

// Writes pixel `at` (row * width + column) of colours `rgb`.
BIREFNET_HD void write(const Target& to, i64 at, u32 rgb, int a) {
    if (to.plane) to.plane[at] = static_cast<u8>(a);
    if (to.mode == kStraight) {
        reinterpret_cast<u32*>(to.image)[at] = straight(rgb, a);
    } else if (to.mode == kOver) {
        u8* out = to.image + 3 * at;
        out[0] = static_cast<u8>(over(rgb & 255, to.colour >> 16 & 255, a));
        out[1] = static_cast<u8>(over(rgb >> 8 & 255, to.colour >> 8 & 255, a));
        out[2] = static_cast<u8>(over(rgb >> 16 & 255, to.colour & 255, a));
    } else {
        to.image[at] = static_cast<u8>(a);
    }
}

// Rows [top, bottom) of column x. `rgb` and `own` are the whole picture's; `rows` holds the taps of
// each row of the strip. The next row's colours are on their way while a row is computed.
template <bool kGrowsAcross, bool kGrowsDown>
BIREFNET_HD void strip(const float* alpha, int h, int w, const u8* rgb, i64 pitch, int channels,
                       const Own& own, const Target& to, int width, int x, int top, int bottom,
                       const Taps* rows, const Taps& column) {
    Walk<kGrowsAcross, kGrowsDown> walk(alpha, h, w, column, rows[0].first);
    const bool coloured = to.mode != kMask;
    const i64 beside = x;
    const u8* pixel = rgb + (coloured ? top * pitch + beside * channels : 0);
    u32 next = coloured ? colours(pixel) : 0;
    for (int y = top; y < bottom; ++y) {
        const u32 now = next;
        if (coloured && y + 1 < bottom) next = colours(pixel += pitch);
        float value = walk.at(rows[y - top]);
        if (own.plane) value = share(value, own.plane[y * own.pitch + beside * own.step]);
        write(to, static_cast<i64>(y) * width + x, now, quantise(value));
    }
}

}  // namespace birefnet
