// The subject's own colours where background shines through: multi-level estimation (multilevel.py
// has the method, its numbers and its source). Colours are 0..255 here, so a picture's levels are
// read as they are. Between levels F and B are kept in 10 bits a colour, one word each.
#pragma once
#include "compose.h"

namespace birefnet {

// multilevel.REGULARIZATION; its GRADIENT_WEIGHT is 1.
constexpr float kRegularization = 1e-5f;
// The sides of a level that colours_coarse takes: at most 32, 16, 8, 4, 2 and 1 pixels.
constexpr int kSmallPixels = 32 * 32;
// A block of colours_level or colours_image is kPaneThreads threads for a pane of pixels. Two
// sweeps reach two pixels round it, and the second needs the first's outcome one pixel round it.
constexpr int kPaneWidth = 32;
constexpr int kPaneHeight = 16;
constexpr int kPaneThreads = 256;
// The cells of a pane and kRound pixels round it.
template <int kRound>
struct Cells {
    static constexpr int kRow = kPaneWidth + 2 * kRound;
    static constexpr int kCount = kRow * (kPaneHeight + 2 * kRound);
};

// Pixels of `full` along a side at level `level`: every 2^level-th, from the first on.
BIREFNET_HD int side_of(int full, int level) {
    return static_cast<int>((static_cast<i64>(full) + (1 << level) - 1) >> level);
}

// What colours_image writes besides what cutout does (Target): RGBA with colours multiplied by
// alpha, the colours alone, RGBA that keeps colours under an alpha of 0.
constexpr int kMultiplied = 3, kColours = 4, kKept = 5;

BIREFNET_HD u32 multiplied(u32 rgb, int a) {
    return static_cast<u32>(over(rgb & 255, 0, a)) |
           static_cast<u32>(over(rgb >> 8 & 255, 0, a)) << 8 |
           static_cast<u32>(over(rgb >> 16 & 255, 0, a)) << 16;
}

BIREFNET_HD void write_colours(u8* plane, i64 at, u32 rgb) {
    u8* out = plane + 3 * at;
    out[0] = static_cast<u8>(rgb);
    out[1] = static_cast<u8>(rgb >> 8);
    out[2] = static_cast<u8>(rgb >> 16);
}

// Writes pixel `at` of colours `rgb`, which is 0 above 24 bits.
BIREFNET_HD void write_image(const Target& to, i64 at, u32 rgb, int a) {
    if (to.mode == kColours) {
        write_colours(to.image, at, rgb);
    } else if (to.mode == kMultiplied || to.mode == kKept) {
        const u32 seen = to.mode == kMultiplied ? multiplied(rgb, a) : rgb;
        reinterpret_cast<u32*>(to.image)[at] = seen | static_cast<u32>(a) << 24;
    } else {
        write(to, at, rgb, a);
    }
}

// A picture and its alpha, uint8 [height,width].
struct Subject {
    const u8* rgb;
    i64 pitch;
    int channels;
    const u8* alpha;
    int height, width;

    // The colours, and alpha in the highest byte, of pixel (x, y) of a level.
    BIREFNET_HD u32 pixel(int x, int y, int level) const {
        const i64 column = static_cast<i64>(x) << level, row = static_cast<i64>(y) << level;
        return colours(rgb + row * pitch + column * channels) |
               static_cast<u32>(alpha[row * width + column]) << 24;
    }
};

BIREFNET_HD float opacity(u32 pixel) {
    return mul(static_cast<float>(pixel >> 24), 1.0f / 255);
}

BIREFNET_HD bool soft(u32 pixel) { return (pixel >> 24) - 1 < 254; }

BIREFNET_HD float colour(u32 pixel, int channel) {
    return static_cast<float>(pixel >> 8 * channel & 255);
}

// 0..255; NaN, which no input gives, becomes 0.
BIREFNET_HD float clip_level(float value) {
    return value > 0.0f ? (value < 255.0f ? value : 255.0f) : 0.0f;
}

BIREFNET_HD u32 pack(float red, float green, float blue) {
    const float steps = 1023.0f / 255;
    return static_cast<u32>(round_int(mul(red, steps))) |
           static_cast<u32>(round_int(mul(green, steps))) << 10 |
           static_cast<u32>(round_int(mul(blue, steps))) << 20;
}

BIREFNET_HD float unpack(u32 packed, int channel) {
    return mul(static_cast<float>(packed >> 10 * channel & 1023), 255.0f / 1023);
}

// F and B of a level, packed: two planes [height,width] behind each other. `shift` is 1 where they
// are asked for by the level after it, of twice the size, and 0 by the level itself.
struct Plates {
    const u32* memory;
    int height, width, shift;

    BIREFNET_HD u32 at(int plate, int x, int y) const {
        const i64 row = plate * static_cast<i64>(height) + (y >> shift);
        return memory[row * width + (x >> shift)];
    }
};

// One sweep of pixel (x, y) of a w x h level: out is F's three colours, then B's. `level` tells the
// pixels of the level and the six values of each as they were before.
template <class Level>
BIREFNET_HD void sweep(const Level& level, int x, int y, int w, int h, float* out) {
    const u32 centre = level.pixel(x, y);
    const float a = opacity(centre), b = add(1.0f, -a);
    float total = 0.0f, sum[6] = {0, 0, 0, 0, 0, 0};
#pragma unroll
    for (int side = 0; side < 4; ++side) {
        const int nx = clamp(x + (side == 1) - (side == 0), 0, w - 1);
        const int ny = clamp(y + (side == 3) - (side == 2), 0, h - 1);
        const float step = add(a, -opacity(level.pixel(nx, ny)));
        const float weight = add(kRegularization, step < 0.0f ? -step : step);
        total = add(total, weight);
#pragma unroll
        for (int of = 0; of < 6; ++of) {
            sum[of] = add(sum[of], mul(weight, level.value(of, nx, ny)));
        }
    }
    const float mean = div(1.0f, total);
    const float share = div(1.0f, add(add(total, mul(a, a)), mul(b, b)));
#pragma unroll
    for (int of = 0; of < 3; ++of) {
        const float front = mul(sum[of], mean), back = mul(sum[of + 3], mean);
        const float rest = add(add(colour(centre, of), -mul(a, front)), -mul(b, back));
        const float part = mul(rest, share);
        out[of] = clip_level(add(front, mul(a, part)));
        out[of + 3] = clip_level(add(back, mul(b, part)));
    }
}

// A small level, float32 in memory: `values` is [6,kSmallPixels] of this level, or with a `shift`
// of 1 of the one before, whose rows are `row` long; or null for the mean colours of the sure
// pixels, whose sums are `sums` (count_sure).
struct Small {
    const Subject* subject;
    const float* values;
    const int* sums;
    int level, shift, row;

    BIREFNET_HD u32 pixel(int x, int y) const { return subject->pixel(x, y, level); }
    BIREFNET_HD float value(int of, int x, int y) const {
        if (!values) {
            const int* sum = sums + (of < 3 ? 0 : 4);
            return div(static_cast<float>(sum[of % 3]), static_cast<float>(greater(sum[3], 1)));
        }
        return values[of * kSmallPixels + (y >> shift) * row + (x >> shift)];
    }
};

// The pane of a w x h level that a block works on, from column `left` and row `top` on.
struct Place {
    int left, top, w, h;

    BIREFNET_HD Place(int block, int w, int h)
        : left(block % ((w + kPaneWidth - 1) / kPaneWidth) * kPaneWidth),
          top(block / ((w + kPaneWidth - 1) / kPaneWidth) * kPaneHeight), w(w), h(h) {}

    BIREFNET_HD bool inside(int x, int y) const { return x >= 0 && y >= 0 && x < w && y < h; }
};

// A pane in shared memory: `pixels`, and `values` of the colours, six planes of cells; both reach a
// number of pixels round it.
template <int kPixelsRound, int kValuesRound>
struct Pane {
    const u32* pixels;
    const float* values;
    const Place* at;

    BIREFNET_HD u32 pixel(int x, int y) const {
        return pixels[(y - at->top + kPixelsRound) * Cells<kPixelsRound>::kRow + x - at->left +
                      kPixelsRound];
    }
    BIREFNET_HD float value(int of, int x, int y) const {
        return values[of * Cells<kValuesRound>::kCount +
                      (y - at->top + kValuesRound) * Cells<kValuesRound>::kRow + x - at->left +
                      kValuesRound];
    }
};

// Pixels of the pane and round it; the level's border is not crossed. *any becomes 1 when one of
// them is soft.
template <int kRound>
BIREFNET_HD void gather(const Subject& subject, int level, const Place& at, int thread, u32* pixels,
                        int* any) {
    for (int i = thread; i < Cells<kRound>::kCount; i += kPaneThreads) {
        const int x = at.left - kRound + i % Cells<kRound>::kRow;
        const int y = at.top - kRound + i / Cells<kRound>::kRow;
        if (!at.inside(x, y)) continue;
        const u32 pixel = subject.pixel(x, y, level);
        pixels[i] = pixel;
        // Every thread that writes writes the same.
        if (soft(pixel)) *any = 1;
    }
}

// What was known so far, of the pane and round it.
template <int kRound>
BIREFNET_HD void recall(const Plates& known, const Place& at, int thread, float* values) {
    for (int i = thread; i < Cells<kRound>::kCount; i += kPaneThreads) {
        const int x = at.left - kRound + i % Cells<kRound>::kRow;
        const int y = at.top - kRound + i / Cells<kRound>::kRow;
        if (!at.inside(x, y)) continue;
        const u32 front = known.at(0, x, y), back = known.at(1, x, y);
#pragma unroll
        for (int of = 0; of < 3; ++of) {
            values[of * Cells<kRound>::kCount + i] = unpack(front, of);
            values[(of + 3) * Cells<kRound>::kCount + i] = unpack(back, of);
        }
    }
}

// A sweep of the pane and one pixel round it, from `before`, two round it, to `after`.
BIREFNET_HD void sweep_round(const Pane<2, 2>& before, int thread, float* after) {
    const Place& at = *before.at;
    for (int i = thread; i < Cells<1>::kCount; i += kPaneThreads) {
        const int x = at.left - 1 + i % Cells<1>::kRow, y = at.top - 1 + i / Cells<1>::kRow;
        if (!at.inside(x, y)) continue;
        float out[6];
        sweep(before, x, y, at.w, at.h, out);
#pragma unroll
        for (int of = 0; of < 6; ++of) after[of * Cells<1>::kCount + i] = out[of];
    }
}

// Of a plate, a pixel whose alpha is 0 or 255: the picture's own colours, if the pixel belongs to
// that plate; else what was known.
BIREFNET_HD u32 settled(const Plates& known, int plate, int x, int y, u32 pixel) {
    if ((plate == 0) == (pixel >> 24 == 255)) {
        return pack(colour(pixel, 0), colour(pixel, 1), colour(pixel, 2));
    }
    return known.at(plate, x, y);
}

// The subject's colours of a soft pixel, in the low 24 bits: by a last sweep, or as they are known
// where nothing is left to be done.
BIREFNET_HD u32 own_colours(const Pane<1, 1>& pane, const Plates& known, int x, int y) {
    float out[6];
    if (known.shift) {
        sweep(pane, x, y, pane.at->w, pane.at->h, out);
    } else {
        const u32 front = known.at(0, x, y);
#pragma unroll
        for (int of = 0; of < 3; ++of) out[of] = unpack(front, of);
    }
    return static_cast<u32>(round_int(out[0])) | static_cast<u32>(round_int(out[1])) << 8 |
           static_cast<u32>(round_int(out[2])) << 16;
}

// Adds a pixel that is surely the subject's (0) or surely not (4) to its sum; the fourth counts.
BIREFNET_HD void count_sure(u32 pixel, int* sums) {
    const int a = static_cast<int>(pixel >> 24);
    // 0.9 and 0.1 of 255: multilevel.SURELY_FOREGROUND and SURELY_BACKGROUND.
    if (a >= 26 && a <= 229) return;
    int* sum = sums + (a > 229 ? 0 : 4);
    for (int channel = 0; channel < 3; ++channel) {
        atomicAdd(sum + channel, static_cast<int>(pixel >> 8 * channel & 255));
    }
    atomicAdd(sum + 3, 1);
}

}  // namespace birefnet
