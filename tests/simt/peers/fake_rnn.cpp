// cudnnRNNForward as its documentation has it: LSTM and GRU, both directions, true lengths.
#include <cudnn.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "fake_values.h"

using fake::load;
using fake::store;

struct cudnnRNNStruct {
  cudnnRNNMode_t mode;
  cudnnDataType_t type;
  int inputs, units;

  int gates() const { return mode == CUDNN_LSTM ? 4 : 3; }
  // Elements before gate `gate` of a direction: matrix and bias of each, one behind the other.
  std::size_t offset(int direction, int gate) const {
    std::size_t count = 0;
    for (int d = 0; d < 2; ++d)
      for (int g = 0; g < 2 * gates(); ++g) {
        if (d == direction && g == gate) return count;
        count += static_cast<std::size_t>(units) * static_cast<std::size_t>(columns(g) + 1);
      }
    return count;
  }
  int columns(int gate) const { return gate < gates() ? inputs : units; }
};
struct cudnnRNNDataStruct {
  cudnnDataType_t type;
  int steps, batch, size;
  std::vector<int> lengths;
};
struct cudnnTensorStruct {};
struct cudnnDropoutStruct {};

namespace {

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

// One direction of one sequence: `x` (steps, inputs) to `y`, whose rows are 2 units wide.
void run_sequence(const cudnnRNNStruct& rnn, int direction, const void* weights, const void* x,
                  std::size_t x_first, void* y, std::size_t y_first, int length) {
  const auto units = static_cast<std::size_t>(rnn.units),
             inputs = static_cast<std::size_t>(rnn.inputs);
  std::vector<double> h(units), c(units), next(units);
  for (int step = 0; step < length; ++step) {
    const auto t = static_cast<std::size_t>(direction == 0 ? step : length - 1 - step);
    for (std::size_t u = 0; u < units; ++u) {
      const auto product = [&](int gate) {  // matrix row times input or state, and bias
        const auto columns = static_cast<std::size_t>(rnn.columns(gate));
        const std::size_t first = rnn.offset(direction, gate);
        double sum = load(rnn.type, weights, first + units * columns + u);
        for (std::size_t i = 0; i < columns; ++i)
          sum += load(rnn.type, weights, first + u * columns + i) *
                 (gate < rnn.gates() ? load(rnn.type, x, x_first + t * inputs + i) : h[i]);
        return sum;
      };
      if (rnn.mode == CUDNN_LSTM) {
        const double i = sigmoid(product(0) + product(4)), f = sigmoid(product(1) + product(5)),
                     g = std::tanh(product(2) + product(6)), o = sigmoid(product(3) + product(7));
        c[u] = f * c[u] + i * g;
        next[u] = o * std::tanh(c[u]);
      } else {
        const double r = sigmoid(product(0) + product(3)), z = sigmoid(product(1) + product(4)),
                     n = std::tanh(product(2) + r * product(5));
        next[u] = (1 - z) * n + z * h[u];
      }
    }
    h = next;
    for (std::size_t u = 0; u < units; ++u)
      store(rnn.type, y, y_first + t * 2 * units + static_cast<std::size_t>(direction) * units + u,
            h[u]);
  }
}

template <class T>
cudnnStatus_t make(T** made) {
  *made = new T{};
  return CUDNN_STATUS_SUCCESS;
}
template <class T>
cudnnStatus_t end(T* made) {
  delete made;
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* made) {
  return make(made);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t made) {
  return end(made);
}
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t, cudnnDataType_t, int, const int*,
                                         const int*) {
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t* made) {
  return make(made);
}
cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t made) {
  return end(made);
}
cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t, cudnnHandle_t, float, void*,
                                        size_t, unsigned long long) {
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t* made) {
  return make(made);
}
cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t made) {
  return end(made);
}
cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t* made) {
  return make(made);
}
cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t made) {
  return end(made);
}

// Persistent kernels are refused, as cuDNN does for most sizes.
cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t rnn, cudnnRNNAlgo_t algorithm,
                                       cudnnRNNMode_t mode, cudnnRNNBiasMode_t bias,
                                       cudnnDirectionMode_t direction, cudnnRNNInputMode_t,
                                       cudnnDataType_t type, cudnnDataType_t, cudnnMathType_t,
                                       int32_t inputs, int32_t units, int32_t projection,
                                       int32_t layers, cudnnDropoutDescriptor_t, uint32_t flags) {
  if (algorithm != CUDNN_RNN_ALGO_STANDARD) return CUDNN_STATUS_NOT_SUPPORTED;
  if (bias != CUDNN_RNN_DOUBLE_BIAS || direction != CUDNN_BIDIRECTIONAL || projection != units ||
      layers != 1 || flags != CUDNN_RNN_PADDED_IO_ENABLED)
    return CUDNN_STATUS_BAD_PARAM;
  *rnn = {mode, type, inputs, units};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t data, cudnnDataType_t type,
                                        cudnnRNNDataLayout_t layout, int steps, int batch, int size,
                                        const int* lengths, void*) {
  if (layout != CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED) return CUDNN_STATUS_BAD_PARAM;
  for (int i = 0; i < batch; ++i)
    if (lengths[i] < 1 || lengths[i] > steps) return CUDNN_STATUS_BAD_PARAM;
  *data = {type, steps, batch, size, {lengths, lengths + batch}};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t, cudnnRNNDescriptor_t, cudnnForwardMode_t,
                                        cudnnRNNDataDescriptor_t, size_t* work, size_t* reserve) {
  *work = 64, *reserve = 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t, cudnnRNNDescriptor_t rnn, size_t* bytes) {
  *bytes = rnn->offset(2, 0) * fake::bytes(rnn->type == CUDNN_DATA_FLOAT);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t, cudnnRNNDescriptor_t rnn, int32_t direction,
                                      size_t, const void* space, int32_t gate,
                                      cudnnTensorDescriptor_t, void** matrix,
                                      cudnnTensorDescriptor_t, void** bias) {
  const std::size_t element = fake::bytes(rnn->type == CUDNN_DATA_FLOAT);
  auto* first = static_cast<std::byte*>(const_cast<void*>(space));
  *matrix = first + rnn->offset(direction, gate) * element;
  *bias =
      first + (rnn->offset(direction, gate) + static_cast<std::size_t>(rnn->units) *
                                                  static_cast<std::size_t>(rnn->columns(gate))) *
                  element;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnRNNForward(cudnnHandle_t, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode,
                              const int32_t* lengths, cudnnRNNDataDescriptor_t x_data,
                              const void* x, cudnnRNNDataDescriptor_t y_data, void* y,
                              cudnnTensorDescriptor_t, const void*, void*, cudnnTensorDescriptor_t,
                              const void*, void*, size_t, const void* weights, size_t, void*,
                              size_t, void*) {
  if (mode != CUDNN_FWD_MODE_INFERENCE) return CUDNN_STATUS_BAD_PARAM;
  if (!std::equal(x_data->lengths.begin(), x_data->lengths.end(), lengths))
    return CUDNN_STATUS_BAD_PARAM;  // those of the device must be those of the descriptor
  const auto steps = static_cast<std::size_t>(x_data->steps);
  const std::size_t width = steps * static_cast<std::size_t>(y_data->size);
  for (int sequence = 0; sequence < x_data->batch; ++sequence) {
    const auto i = static_cast<std::size_t>(sequence);
    for (std::size_t k = 0; k < width; ++k) store(rnn->type, y, i * width + k, 0);  // padding
    for (int direction = 0; direction < 2; ++direction)
      run_sequence(*rnn, direction, weights, x, i * steps * static_cast<std::size_t>(rnn->inputs),
                   y, i * width, x_data->lengths[i]);
  }
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
