// The model's answer to alpha in 0..1, and alpha to the picture's size: OpenCV's bicubic kernel
// (a = -0.75, border replicated) along an axis that grows or stays, the exact area of each pixel
// along an axis that shrinks. Across first, then down.
#pragma once
#include "common.h"

namespace birefnet {

// Values of a block of activate.
constexpr int kValues = 256;

BIREFNET_HD bool finite(float value) { return (bits(value) & 0x7f800000u) != 0x7f800000u; }

// 1 / (1 + exp(-value)), within 2e-7. exp(-|v|) = 2^n * exp(r), |r| <= ln(2) / 2, by its series to
// r^7; |v| is cut off at 87, before the exponential becomes subnormal. No library function: their
// last bits differ between the device and the host. NaN becomes 0.
BIREFNET_HD float sigmoid(float value) {
    const float size = value < 0.0f ? -value : value;
    const float power = size < 87.0f ? -size : -87.0f;
    const int n = round_int(mul(power, 1.44269504f));
    // ln(2) in two parts, of which the first times n is exact.
    const float whole = static_cast<float>(n);
    const float rest = add(add(power, -mul(whole, 0.693359375f)), -mul(whole, -2.12194440e-4f));
    float total = 1.0f / 5040;
    total = add(mul(total, rest), 1.0f / 720);
    total = add(mul(total, rest), 1.0f / 120);
    total = add(mul(total, rest), 1.0f / 24);
    total = add(mul(total, rest), 1.0f / 6);
    total = add(mul(total, rest), 1.0f / 2);
    total = add(mul(total, rest), 1.0f);
    total = add(mul(total, rest), 1.0f);
    const float small = mul(total, from_bits(static_cast<u32>(n + 127) << 23));
    const float answer = div(value < 0.0f ? small : 1.0f, add(1.0f, small));
    return value == value ? answer : 0.0f;
}

// The inputs of one output along an axis. Bicubic: inputs first .. first + 3, which may lie outside
// and are then clamped. Area: inputs first .. first + count - 1, all inside, of weight[0] for the
// first, weight[2] for the last (and only) one, weight[1] between.
struct Taps {
    int first, count;
    float weight[4];
};

// `scale`: inputs per output. The position is a double, as in cv2: a float near 1000 is off by 3e-5
// of a pixel.
BIREFNET_HD Taps cubic(int at, double scale) {
    const double position = add(mul(add(static_cast<double>(at), 0.5), scale), -0.5);
    const int below = floor_int(position);
    const float t = narrow(add(position, -static_cast<double>(below)));
    const float near = add(t, 1.0f), back = add(1.0f, -t);
    Taps taps;
    taps.first = below - 1;
    taps.count = 4;
    // ((a (t+1) - 5a) (t+1) + 8a) (t+1) - 4a and ((a+2) t - (a+3)) t t + 1.
    taps.weight[0] = add(mul(add(mul(add(mul(-0.75f, near), 3.75f), near), -6.0f), near), 3.0f);
    taps.weight[1] = add(mul(mul(add(mul(1.25f, t), -2.25f), t), t), 1.0f);
    taps.weight[2] = add(mul(mul(add(mul(1.25f, back), -2.25f), back), back), 1.0f);
    taps.weight[3] = add(add(add(1.0f, -taps.weight[0]), -taps.weight[1]), -taps.weight[2]);
    return taps;
}

// Output `at`'s cell is [at * scale, (at + 1) * scale) of `size` inputs. Slivers under 0.001 of an
// input are left out, as in cv2 (computeResizeAreaTab, OpenCV, modules/imgproc/src/resize.cpp).
BIREFNET_HD Taps area(int at, double scale, int size) {
    const double low = mul(static_cast<double>(at), scale), high = add(low, scale);
    const double rest = add(static_cast<double>(size), -low);
    const double cell = scale < rest ? scale : rest;
    const int stop = lesser(floor_int(high), size - 1);
    const int start = lesser(ceil_int(low), stop);
    const double head = add(static_cast<double>(start), -low);
    double tail = add(high, -static_cast<double>(stop));
    const bool heads = head > 1e-3, tails = tail > 1e-3;
    tail = tail < 1.0 ? tail : 1.0;
    tail = tail < cell ? tail : cell;
    Taps taps;
    taps.first = start - (heads ? 1 : 0);
    taps.count = stop + (tails ? 1 : 0) - taps.first;
    taps.weight[1] = narrow(1.0 / cell);
    taps.weight[0] = heads ? narrow(head / cell) : taps.weight[1];
    taps.weight[2] = tails ? narrow(tail / cell) : taps.weight[1];
    // A cell inside one input, at the row's very end, has a head and no more.
    if (taps.count == 1 && !tails) taps.weight[2] = taps.weight[0];
    taps.weight[3] = 0.0f;
    return taps;
}

BIREFNET_HD float area_weight(const Taps& taps, int i) {
    return i == taps.count - 1 ? taps.weight[2] : i == 0 ? taps.weight[0] : taps.weight[1];
}

BIREFNET_HD float combine(const float* weight, float a, float b, float c, float d) {
    const float left = add(mul(a, weight[0]), mul(b, weight[1]));
    return add(add(left, mul(c, weight[2])), mul(d, weight[3]));
}

// One row of alpha, float32 [width], at the column that `taps` describes.
template <bool kGrows>
BIREFNET_HD float across(const float* row, const Taps& taps, int width) {
    if (kGrows) {
        const int last = width - 1, first = taps.first;
        return combine(taps.weight, row[clamp(first, 0, last)], row[clamp(first + 1, 0, last)],
                       row[clamp(first + 2, 0, last)], row[clamp(first + 3, 0, last)]);
    }
    float sum = 0.0f;
    for (int i = 0; i < taps.count; ++i) {
        sum = add(sum, mul(row[taps.first + i], area_weight(taps, i)));
    }
    return sum;
}

// Alpha, float32 [height,width], down one column of the picture, row after row. Neighbouring rows
// of a picture that is larger than alpha share most of their four lines, so these are kept.
template <bool kGrowsAcross, bool kGrowsDown>
struct Walk {
    const float* alpha;
    int height, width;
    Taps column;
    int held;
    float line0, line1, line2, line3;

    BIREFNET_HD Walk(const float* alpha, int height, int width, const Taps& column, int first)
        : alpha(alpha), height(height), width(width), column(column), held(first - 4),
          line0(0), line1(0), line2(0), line3(0) {}

    BIREFNET_HD float line(int row) const {
        const int inside = kGrowsDown ? clamp(row, 0, height - 1) : row;
        return across<kGrowsAcross>(alpha + static_cast<i64>(inside) * width, column, width);
    }

    // 0..1; rows come in ascending order, the first with the constructor's `first`.
    BIREFNET_HD float at(const Taps& row) {
        if (kGrowsDown) {
            while (held < row.first) {
                ++held;
                line0 = line1;
                line1 = line2;
                line2 = line3;
                line3 = line(held + 3);
            }
            return clip(combine(row.weight, line0, line1, line2, line3));
        }
        float sum = 0.0f;
        for (int i = 0; i < row.count; ++i) {
            sum = add(sum, mul(line(row.first + i), area_weight(row, i)));
        }
        return clip(sum);
    }
};

}  // namespace birefnet
