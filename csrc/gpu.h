// The operations of the module on tensors that lie on a GPU, if it was built for that.
#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <memory>

#include "cuda/cuda_ops.h"
#include "tensor.h"

namespace gradsplinter {

using cuda::cross;
using cuda::gram;
using cuda::hash_rows;
using cuda::jacobian;
using cuda::pack_bits;
using cuda::signatures;

#ifdef GRADSPLINTER_CUDA

// Memory from torch's own allocator: what is freed here is used again by later work on the stream.
class TorchMemory : public cuda::Memory {
 public:
  explicit TorchMemory(int device) : device_(device) {}
  std::shared_ptr<void> own(int64_t bytes) override;
  pybind11::object empty(const char* dtype, int64_t size) const;

 private:
  int device_;
};

// Makes a device current, and the caller's current again at the end. By torch, which then gives
// that one no context of its own if it had none.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  pybind11::object guard_;  // torch.cuda.device, or null where the device was current
};

// Raises NotImplementedError where a device cannot run the kernels.
void need_usable(int device);

// Without Python's lock. Launches keep it: how much shared memory a kernel may ask for is set
// before each, and other threads must not come between.
inline void wait_unlocked(const std::function<void()>& until) {
  const pybind11::gil_scoped_release unlock;
  until();
}

// Calls `work` with the device of a tensor and torch's current stream there -> whether it lies on
// one.
template <class Work>
bool on_gpu(const Tensor& tensor, const Work& work) {
  if (!tensor.on_cuda()) return false;
  need_usable(tensor.device());
  const OnDevice on(tensor.device());
  void* stream = nullptr;
  if (torch_exchange().current_work_stream(kDLCUDA, tensor.device(), &stream) != 0) {
    throw pybind11::error_already_set();
  }
  TorchMemory memory(tensor.device());
  work(cuda::Device{tensor.device(), stream, memory, wait_unlocked});
  return true;
}

#else

template <class Work>
bool on_gpu(const Tensor&, const Work&) {
  return false;
}

#endif

void bind_gpu(pybind11::module_& m);

}  // namespace gradsplinter
