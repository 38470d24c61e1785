// ldmatrix: four 8 x 8 matrices of 16-bit elements (8 rows of 16 bytes), each row wherever its lane says.
#pragma once

#include <cstdint>

namespace convmin::ptx {

// Lane l gives the address of row l % 8 of matrix l / 8, and receives bytes 4 * (l % 4) ... of row l / 4 of each
// matrix.
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&rows)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(rows[0]), "=r"(rows[1]), "=r"(rows[2]), "=r"(rows[3])
               : "r"(address)
               : "memory");
}

}  // namespace convmin::ptx
