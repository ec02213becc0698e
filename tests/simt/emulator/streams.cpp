// Streams, events and graphs of the emulated runtime.
//
// An operation follows the one before it in its stream, the events that its stream waits for, and,
// by the rules of the legacy default stream: there, all earlier work of every blocking stream; in a
// blocking stream, all earlier work of the legacy one. Nothing else orders two operations, so in
// between each may be done early or late.
#include "emulator/streams.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "emulator/emulator.h"

// The handles that cuda_runtime_api.h leaves opaque.
struct CUgraph_st {
  std::vector<simt::machine::Work> nodes;
  std::optional<std::thread::id> captured_by = {};  // in the mode that binds this thread alone
};
struct CUgraphExec_st {
  std::vector<simt::machine::Work> nodes;
};

namespace simt::machine {
namespace {

struct Operation {
  Work work;                                      // empty: marks a place
  std::vector<std::shared_ptr<Operation>> after;  // what is done before it
  bool done = false;
  std::chrono::steady_clock::time_point when;  // it was done
};
using Pending = std::shared_ptr<Operation>;

}  // namespace
}  // namespace simt::machine

struct CUstream_st {
  int device = 0;
  bool blocking = true;         // keeps order with the legacy default stream
  simt::machine::Pending last;  // of its operations; null: none yet
  CUgraph_st* graph = nullptr;  // while it captures
  bool origin = false;          // of the capture, not joined to it by an event
};
struct CUevent_st {
  int device = 0;
  simt::machine::Pending mark;  // null: never recorded
  CUgraph_st* graph = nullptr;  // that its stream was captured into
};

namespace simt::machine {
namespace {

// Held while work runs: operations run one at a time, whichever thread waits for them.
std::recursive_mutex mutex;
std::vector<CUstream_st*> streams;  // made by the program
CUstream_st legacy;
std::vector<Pending> left_behind;  // last operations of blocking streams that were destroyed
std::deque<Pending> pending;       // in the order of their calls; some are done
std::exception_ptr found;          // by work that ran where nothing could be thrown
cudaError_t failed = cudaSuccess;  // of work that ran after its call
std::uint32_t random_state = 0;
unsigned random_seed = 0;

std::uint32_t random(std::uint32_t below) {
  if (random_state == 0 || random_seed != config().stream_seed) {
    random_seed = config().stream_seed;
    random_state = random_seed * 2654435761u + 12345u;
  }
  random_state = random_state * 1664525u + 1013904223u;
  return static_cast<std::uint32_t>((std::uint64_t{random_state} * below) >> 32);
}

bool is_legacy(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}
CUstream_st& stream_of(cudaStream_t stream) {
  return is_legacy(stream) ? legacy : *stream;
}

bool is_open(const Pending& operation) {
  return operation != nullptr && !operation->done;
}

// One more operation at the end of the stream, after `also`.
Pending append(CUstream_st& stream, Work work, const Pending& also = nullptr) {
  auto operation = std::make_shared<Operation>();
  operation->work = std::move(work);
  const auto follow = [&](const Pending& other) {
    if (is_open(other)) operation->after.push_back(other);
  };
  follow(stream.last);
  follow(also);
  if (&stream == &legacy) {
    for (const CUstream_st* other : streams)
      if (other->blocking) follow(other->last);
    for (const Pending& other : left_behind) follow(other);
    left_behind.clear();
  } else if (stream.blocking) {
    follow(legacy.last);
  }
  stream.last = operation;
  pending.push_back(operation);
  return operation;
}

// Runs the operation after all that it follows.
void run(const Pending& last) {
  std::vector<Pending> stack{last};
  while (!stack.empty()) {
    const Pending operation = stack.back();
    std::erase_if(operation->after, [](const Pending& other) { return other->done; });
    if (!operation->done && !operation->after.empty()) {
      stack.insert(stack.end(), operation->after.begin(), operation->after.end());
      continue;
    }
    stack.pop_back();
    if (operation->done) continue;
    operation->done = true;  // also where it throws
    const Work work = std::move(operation->work);
    operation->work = nullptr;
    const cudaError_t error = work ? work() : cudaSuccess;
    operation->when = std::chrono::steady_clock::now();
    if (error != cudaSuccess && failed == cudaSuccess) failed = error;
  }
}

// The first of what is left, or null.
Pending first_pending() {
  while (!pending.empty() && pending.front()->done) pending.pop_front();
  return pending.empty() ? nullptr : pending.front();
}

// A device that is ahead of the host: some operations that may run now.
void run_ahead() {
  if (config().streams != Async::kRandom) return;
  for (std::uint32_t count = random(3); count > 0 && first_pending() != nullptr; --count)
    run(Pending(pending[random(static_cast<std::uint32_t>(pending.size()))]));
}

// What a waiting call returns: earlier work's error or finding if there is one.
cudaError_t take_failure() {
  if (const int error = std::exchange(device().run_error, 0))
    failed = static_cast<cudaError_t>(error);
  if (found) std::rethrow_exception(std::exchange(found, nullptr));
  return result(std::exchange(failed, cudaSuccess));
}

cudaError_t wait_for(const Pending& operation) {
  run_ahead();
  if (is_open(operation)) run(operation);
  return take_failure();
}

// Whether it is done. A caller that polls sees it come nearer each time.
cudaError_t query(const Pending& operation) {
  if (!is_open(operation)) return take_failure();
  Pending first = operation;
  while (!first->after.empty()) {
    std::erase_if(first->after, [](const Pending& other) { return other->done; });
    if (!first->after.empty()) first = Pending(first->after.front());
  }
  run(first);
  return cudaErrorNotReady;  // no failure: nothing for cudaGetLastError
}

CUgraph_st* capture_of(cudaStream_t stream) {
  return is_legacy(stream) ? nullptr : stream->graph;
}

}  // namespace

bool captures(cudaStream_t stream) {
  return capture_of(stream) != nullptr;
}

bool takes_launches(cudaStream_t stream) {
  return is_legacy(stream) || stream->device == current_device();
}

cudaError_t enqueue(cudaStream_t stream, Work work) {
  std::lock_guard lock(mutex);
  if (CUgraph_st* graph = capture_of(stream)) {
    graph->nodes.push_back(std::move(work));
    return cudaSuccess;
  }
  const Pending operation = append(stream_of(stream), std::move(work));
  if (config().streams == Async::kEarly) {
    run(operation);
    return take_failure();
  }
  run_ahead();
  return cudaSuccess;
}

cudaError_t refuse_in_capture() {
  std::lock_guard lock(mutex);
  const bool any = std::any_of(streams.begin(), streams.end(), [](const CUstream_st* s) {
    return s->graph != nullptr &&
           s->graph->captured_by.value_or(std::this_thread::get_id()) == std::this_thread::get_id();
  });
  return result(any ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

cudaError_t finish(cudaStream_t stream) {
  std::lock_guard lock(mutex);
  return wait_for(stream_of(stream).last);
}

cudaError_t finish_all() {
  std::lock_guard lock(mutex);
  run_ahead();
  while (const Pending first = first_pending()) run(first);
  return take_failure();
}

void finish_all_quietly() {
  std::lock_guard lock(mutex);
  while (const Pending first = first_pending()) {
    try {
      run(first);
    } catch (...) {
      if (!found) found = std::current_exception();
    }
  }
}

}  // namespace simt::machine

namespace m = simt::machine;

extern "C" {

// ---- Streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  std::lock_guard lock(m::mutex);
  *stream = m::streams.emplace_back(new CUstream_st);
  (*stream)->device = device;
  (*stream)->blocking = (flags & cudaStreamNonBlocking) == 0;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::lock_guard lock(m::mutex);
  if (std::erase(m::streams, stream) == 0) return m::result(cudaErrorInvalidResourceHandle);
  if (stream->blocking && m::is_open(stream->last)) m::left_behind.push_back(stream->last);
  delete stream;  // what it still has to do is done all the same
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (m::captures(stream)) return m::result(cudaErrorStreamCaptureUnsupported);
  return m::finish(stream);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  std::lock_guard lock(m::mutex);
  if (m::captures(stream)) return m::result(cudaErrorStreamCaptureUnsupported);
  return m::query(m::stream_of(stream).last);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  std::lock_guard lock(m::mutex);
  if (event->graph != nullptr) {
    if (m::is_legacy(stream)) return m::result(cudaErrorStreamCaptureImplicit);
    stream->graph = event->graph;  // the stream joins the capture
    return cudaSuccess;
  }
  if (m::is_open(event->mark)) m::append(m::stream_of(stream), nullptr, event->mark);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  *event = new CUevent_st;
  (*event)->device = device;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  std::lock_guard lock(m::mutex);
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  std::lock_guard lock(m::mutex);
  if (event->device != (m::is_legacy(stream) ? m::current_device() : stream->device))
    return m::result(cudaErrorInvalidResourceHandle);
  event->graph = m::capture_of(stream);
  if (event->graph != nullptr) return cudaSuccess;
  event->mark = m::append(m::stream_of(stream), nullptr);
  if (simt::config().streams == simt::Async::kEarly) m::run(event->mark);
  m::run_ahead();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::lock_guard lock(m::mutex);
  if (event->graph != nullptr) return m::result(cudaErrorCapturedEvent);
  return m::wait_for(event->mark);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::lock_guard lock(m::mutex);
  if (event->graph != nullptr) return m::result(cudaErrorCapturedEvent);
  return m::query(event->mark);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  std::lock_guard lock(m::mutex);
  if (start->mark == nullptr || end->mark == nullptr)
    return m::result(cudaErrorInvalidResourceHandle);
  if (!start->mark->done || !end->mark->done) return m::result(cudaErrorNotReady);
  *milliseconds =
      std::chrono::duration<float, std::milli>(end->mark->when - start->mark->when).count();
  return cudaSuccess;
}

// ---- Capture and replay

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  std::lock_guard lock(m::mutex);
  if (m::is_legacy(stream)) return m::result(cudaErrorStreamCaptureUnsupported);
  if (stream->graph != nullptr) return m::result(cudaErrorIllegalState);
  stream->graph = new CUgraph_st;
  if (mode == cudaStreamCaptureModeThreadLocal)
    stream->graph->captured_by = std::this_thread::get_id();
  stream->origin = true;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::lock_guard lock(m::mutex);
  *graph = nullptr;
  if (m::capture_of(stream) == nullptr) return m::result(cudaErrorIllegalState);
  if (!stream->origin) return m::result(cudaErrorStreamCaptureUnmatched);
  *graph = stream->graph;
  stream->origin = false;
  for (CUstream_st* joined : m::streams)
    if (joined->graph == *graph) joined->graph = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = m::captures(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (m::captures(stream)) return m::result(cudaErrorStreamCaptureUnsupported);
  return m::enqueue(stream, [nodes = executable->nodes] {
    for (const m::Work& work : nodes)
      if (const cudaError_t error = work()) return error;
    return cudaSuccess;
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (nodes != nullptr) return m::result(cudaErrorNotSupported);  // nodes have no handles
  *count = graph->nodes.size();
  return cudaSuccess;
}

}  // extern "C"
