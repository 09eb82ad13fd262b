// What every kernel's header uses. No includes: NVRTC compiles these files without CUDA's headers
// and a C++ compiler without CUDA.
//
// Arithmetic. Every float operation that decides a result goes through the functions below, which
// round each step to nearest even. nvcc would otherwise fuse a product and a sum into one rounding
// (-fmad=true is its default), a C++ compiler may (-ffp-contract), NumPy never does; so the device,
// the host and the NumPy twins give the same bits. Flags that matter: never -use_fast_math and
// never -ftz=true (nvcc); -ffp-contract=off and not -ffast-math (C++).
#pragma once

// What follows BIREFNET_PHASES(phase, count) is done for each phase from 0 on by every thread of
// the block before any thread begins the next. Between phases only memory is kept, no variable of a
// thread; a body is left at its end alone.
#ifdef __CUDACC__
#define BIREFNET_HD __device__ __forceinline__
#define BIREFNET_PHASES(phase, count) \
    for (int phase = 0; phase < (count); ++phase, __syncthreads())
#else
#define BIREFNET_HD inline
#endif

namespace birefnet {

typedef unsigned char u8;
typedef unsigned int u32;
typedef long long i64;

BIREFNET_HD int lesser(int a, int b) { return a < b ? a : b; }
BIREFNET_HD int greater(int a, int b) { return a > b ? a : b; }
BIREFNET_HD int clamp(int value, int low, int high) { return lesser(greater(value, low), high); }

#ifdef __CUDACC__
BIREFNET_HD float add(float a, float b) { return __fadd_rn(a, b); }
BIREFNET_HD float mul(float a, float b) { return __fmul_rn(a, b); }
BIREFNET_HD float div(float a, float b) { return __fdiv_rn(a, b); }
BIREFNET_HD double add(double a, double b) { return __dadd_rn(a, b); }
BIREFNET_HD double mul(double a, double b) { return __dmul_rn(a, b); }
BIREFNET_HD float narrow(double a) { return __double2float_rn(a); }
BIREFNET_HD int floor_int(double a) { return __double2int_rd(a); }
BIREFNET_HD int ceil_int(double a) { return __double2int_ru(a); }
// Half to even, as NumPy's rint.
BIREFNET_HD int round_int(float a) { return __float2int_rn(a); }
BIREFNET_HD u32 bits(float a) { return __float_as_uint(a); }
BIREFNET_HD float from_bits(u32 a) { return __uint_as_float(a); }
#else
BIREFNET_HD float add(float a, float b) { return a + b; }
BIREFNET_HD float mul(float a, float b) { return a * b; }
BIREFNET_HD float div(float a, float b) { return a / b; }
BIREFNET_HD double add(double a, double b) { return a + b; }
BIREFNET_HD double mul(double a, double b) { return a * b; }
BIREFNET_HD float narrow(double a) { return static_cast<float>(a); }
BIREFNET_HD int floor_int(double a) { return static_cast<int>(__builtin_floor(a)); }
BIREFNET_HD int ceil_int(double a) { return static_cast<int>(__builtin_ceil(a)); }
// Half to even in the default rounding mode.
BIREFNET_HD int round_int(float a) { return static_cast<int>(__builtin_rintf(a)); }
BIREFNET_HD u32 bits(float a) {
    u32 b;
    __builtin_memcpy(&b, &a, sizeof b);
    return b;
}
BIREFNET_HD float from_bits(u32 b) {
    float a;
    __builtin_memcpy(&a, &b, sizeof a);
    return a;
}
#endif

// 0..1; NaN becomes 0.
BIREFNET_HD float clip(float value) { return value > 0.0f ? (value < 1.0f ? value : 1.0f) : 0.0f; }

// The three colours of a pixel of 3 or 4 bytes, in the low 24 bits.
BIREFNET_HD u32 colours(const u8* pixel) {
    return static_cast<u32>(pixel[0]) | static_cast<u32>(pixel[1]) << 8 |
           static_cast<u32>(pixel[2]) << 16;
}

BIREFNET_HD bool aligned(const void* pointer, int bytes) {
    return reinterpret_cast<unsigned long long>(pointer) % static_cast<unsigned>(bytes) == 0;
}

}  // namespace birefnet
