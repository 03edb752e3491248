/// What runs on a GPU beside its products: copies to it and from it, each on a stream of its own. Knows LibTorch; for
/// executor.cpp alone.
#pragma once

#include <torch/types.h>

#include <memory>

#include "worker/executor.h"

namespace tempo::worker {

class DeviceQueues {
 public:
  virtual ~DeviceQueues() = default;

  /// Products run here.
  [[nodiscard]] virtual c10::Stream products() const = 0;
  struct Upload {
    at::Tensor tensor;
    Completion done;  ///< then the host's memory may be changed
  };
  /// Products that are started later wait for it. @param host contiguous; copied without waiting if it is pinned.
  virtual Upload upload(const at::Tensor& host) = 0;
  /// Waits for all that the device was asked to do.
  virtual void wait() = 0;
  /// Waits, on the device, for all products started so far. @param from contiguous, of the shape and type of `host`
  virtual Completion download(const at::Tensor& from, const at::Tensor& host) = 0;
};

/// Null for a device that computes where the host's memory is. @throws c10::Error if there is no such device.
std::unique_ptr<DeviceQueues> make_device_queues(const at::Device& device);

}  // namespace tempo::worker
