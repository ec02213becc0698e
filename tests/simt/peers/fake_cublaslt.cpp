// cublasLtMatmul as its documentation has it, column by column. Its first algorithm fails when it
// runs, the second works.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>

#include "fake_values.h"

using fake::load;
using fake::store;

namespace {

struct Product {
  cublasOperation_t a = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  cudaDataType_t bias_type = CUDA_R_32F;
};
struct Matrix {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t pitch;
};

template <class Opaque>
auto& as_matrix(Opaque* matrix) {
  return *reinterpret_cast<Matrix*>(matrix);
}

template <class T>
bool take(T& to, const void* from, std::size_t bytes) {
  if (bytes != sizeof(T)) return false;
  std::memcpy(&to, from, bytes);
  return true;
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() {
  return 130100;
}
const char* cublasLtGetStatusString(cublasStatus_t) {
  return "a refusal of the fake";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t,
                                        cudaDataType_t) {
  *made = reinterpret_cast<cublasLtMatmulDesc_t>(new Product);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t made) {
  delete reinterpret_cast<Product*>(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void* value, size_t bytes) {
  auto& p = *reinterpret_cast<Product*>(product);
  const bool taken = name == CUBLASLT_MATMUL_DESC_TRANSA           ? take(p.a, value, bytes)
                     : name == CUBLASLT_MATMUL_DESC_EPILOGUE       ? take(p.epilogue, value, bytes)
                     : name == CUBLASLT_MATMUL_DESC_BIAS_POINTER   ? take(p.bias, value, bytes)
                     : name == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE ? take(p.bias_type, value, bytes)
                                                                   : false;
  return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t pitch) {
  *made = reinterpret_cast<cublasLtMatrixLayout_t>(new Matrix{type, rows, columns, pitch});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made) {
  delete &as_matrix(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  *made = reinterpret_cast<cublasLtMatmulPreference_t>(new int);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t made) {
  delete reinterpret_cast<int*>(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int most,
                                              cublasLtMatmulHeuristicResult_t* found, int* count) {
  // A is transposed, B is not.
  if (as_matrix(a).rows != as_matrix(b).rows || as_matrix(d).rows != as_matrix(a).columns ||
      as_matrix(d).columns != as_matrix(b).columns)
    return CUBLAS_STATUS_INVALID_VALUE;
  *count = std::min(most, 2);
  for (int i = 0; i < *count; ++i) {
    found[i].algo.data[0] = static_cast<std::uint64_t>(i);
    found[i].state = CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t,
                                                    void* value, size_t bytes, size_t* written) {
  const auto id = static_cast<std::int32_t>(20 + algorithm->data[0]);
  std::memcpy(value, &id, bytes);
  *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void*,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void*, const void*,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t,
                              cudaStream_t) {
  const auto& p = *reinterpret_cast<const Product*>(product);
  if (algorithm->data[0] == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (p.a != CUBLAS_OP_T || workspace == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const Matrix &am = as_matrix(a_layout), &bm = as_matrix(b_layout), &dm = as_matrix(d_layout);
  const bool has_bias =
      p.epilogue == CUBLASLT_EPILOGUE_BIAS || p.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  const bool relu =
      p.epilogue == CUBLASLT_EPILOGUE_RELU || p.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  const auto at = [](const Matrix& m, std::size_t row, std::size_t column) {
    return column * static_cast<std::size_t>(m.pitch) + row;
  };
  for (std::size_t column = 0; column < dm.columns; ++column)
    for (std::size_t row = 0; row < dm.rows; ++row) {
      double sum = has_bias ? load(p.bias_type, p.bias, row) : 0;
      for (std::size_t k = 0; k < am.rows; ++k)
        sum += load(am.type, a, at(am, k, row)) * load(bm.type, b, at(bm, k, column));
      store(dm.type, d, at(dm, row, column), relu ? std::max(sum, 0.0) : sum);
    }
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
