// Element types in memory and the type that they are summed in.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace convmin {

template <typename Element>
struct Numeric {
  using Accum = Element;
  static __device__ __forceinline__ Accum widen(Element value) { return value; }
  static __device__ __forceinline__ Element round(Accum value) { return value; }
};

template <>
struct Numeric<__half> {
  using Accum = float;
  static __device__ __forceinline__ float widen(__half value) { return __half2float(value); }
  static __device__ __forceinline__ __half round(float value) { return __float2half_rn(value); }
};

template <>
struct Numeric<__nv_bfloat16> {
  using Accum = float;
  static __device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
  static __device__ __forceinline__ __nv_bfloat16 round(float value) { return __float2bfloat16_rn(value); }
};

}  // namespace convmin
