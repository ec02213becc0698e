// cuBLASLt 12 or 13, opened at run time: a product of matrices with bias and ReLU behind it.
#pragma once

#include <cublasLt.h>

#include <string>

#include "tools/peers/library.h"

namespace tessera {

// clang-format off
#define TESSERA_CUBLASLT(X)                                                             \
  X(cublasLtGetVersion) X(cublasLtGetStatusString) X(cublasLtCreate) X(cublasLtDestroy) \
  X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy)                              \
  X(cublasLtMatmulDescSetAttribute) X(cublasLtMatrixLayoutCreate)                       \
  X(cublasLtMatrixLayoutDestroy) X(cublasLtMatmulPreferenceCreate)                      \
  X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulPreferenceSetAttribute)            \
  X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmulAlgoConfigGetAttribute)             \
  X(cublasLtMatmul)
// clang-format on

class CublasLt {
 public:
  // Throws Error, with the package's name, where cuBLASLt is missing or lacks a function.
  explicit CublasLt(const std::string& folders);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;

  // A handle for the GPU that is current. Throws Error where there is none.
  void use_device();
  // Throws Error, in cuBLAS's words, unless `status` is success.
  void check(cublasStatus_t status, const char* what) const;

  std::string name() const;  // "cuBLASLt 13.1.0"
  const std::string& path() const { return library_.path(); }
  cublasLtHandle_t handle() const { return handle_; }

#define TESSERA_DECLARE(function) decltype(::function)* function = nullptr;
  TESSERA_CUBLASLT(TESSERA_DECLARE)
#undef TESSERA_DECLARE

 private:
  PeerLibrary library_;
  cublasLtHandle_t handle_ = nullptr;
};

}  // namespace tessera
