#include "worker/device_queues.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "tempo/error.h"

namespace tempo::worker {
namespace {

using c10::cuda::CUDAStream;

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next call would report it once more
  throw ProtocolError(fmt::format("worker: {} failed on the device: {}", what, cudaGetErrorString(status)));
}

/// A point in what a stream has been asked for.
class Mark {
 public:
  Mark() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event"); }
  ~Mark() { cudaEventDestroy(event_); }
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;

  /// Here. Where that fails, what was asked for is over when this throws: it may use memory that is let go then.
  void set(const CUDAStream& stream) const {
    const cudaError_t status = cudaEventRecord(event_, stream.stream());
    if (status != cudaSuccess) cudaStreamSynchronize(stream.stream());
    check(status, "recording an event");
  }
  void hold_back(const CUDAStream& stream) const {
    check(cudaStreamWaitEvent(stream.stream(), event_, 0), "waiting for a stream");
  }
  void wait() const { check(cudaEventSynchronize(event_), "an operation"); }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaQueues final : public DeviceQueues {
 public:
  explicit CudaQueues(const at::Device& device)
      : device_(device),
        products_(c10::cuda::getStreamFromPool(true, device.index())),
        to_device_(c10::cuda::getStreamFromPool(false, device.index())),
        from_device_(c10::cuda::getStreamFromPool(false, device.index())) {}

  [[nodiscard]] c10::Stream products() const override { return products_.unwrap(); }

  Upload upload(const at::Tensor& host) override {
    const c10::cuda::CUDAStreamGuard guard(to_device_);  // the allocator's memory is of the current stream
    at::Tensor tensor = at::empty(host.sizes(), host.options().device(device_));
    const auto mark = std::make_shared<Mark>();
    check(
        cudaMemcpyAsync(tensor.data_ptr(), host.data_ptr(), host.nbytes(), cudaMemcpyHostToDevice, to_device_.stream()),
        "a copy to it");
    mark->set(to_device_);
    tensor.record_stream(products_.unwrap());
    mark->hold_back(products_);
    return {tensor, [mark, host] { mark->wait(); }};
  }

  Completion download(const at::Tensor& from, const at::Tensor& host) override {
    const c10::cuda::CUDAGuard guard(device_);
    const auto mark = std::make_shared<Mark>();
    mark->set(products_);
    mark->hold_back(from_device_);
    check(
        cudaMemcpyAsync(host.data_ptr(), from.data_ptr(), from.nbytes(), cudaMemcpyDeviceToHost, from_device_.stream()),
        "a copy from it");
    mark->set(from_device_);                      // once more: what waits for it already waits for what it was
    return [mark, from, host] { mark->wait(); };  // so `from` is not freed, and its memory used again, before
  }

  void wait() override {
    const c10::cuda::CUDAGuard guard(device_);
    check(cudaDeviceSynchronize(), "an operation");
  }

 private:
  const at::Device device_;
  const CUDAStream products_, to_device_, from_device_;
};

}  // namespace

std::unique_ptr<DeviceQueues> make_device_queues(const at::Device& device) {
  if (!device.is_cuda()) return nullptr;
  at::empty({1}, at::TensorOptions(device));  // says what is wrong with it
  const at::Device numbered(device.type(), device.has_index() ? device.index() : c10::DeviceIndex(0));
  return std::make_unique<CudaQueues>(numbered);
}

}  // namespace tempo::worker
