// A borrowed view of a torch tensor, passed from Python through DLPack's C exchange API (torch 2.11
// and newer), without linking to torch.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "dlpack/dlpack.h"

namespace gradsplinter {

// torch's exchange functions; throws ImportError where torch is too old to have them.
inline const DLPackExchangeAPI& torch_exchange() {
  static const DLPackExchangeAPI* api = [] {
    namespace py = pybind11;
    const py::object tensor = py::module_::import("torch").attr("Tensor");
    if (!py::hasattr(tensor, "__dlpack_c_exchange_api__")) {
      throw py::import_error("gradsplinter needs torch 2.11 or newer");
    }
    const py::capsule capsule = tensor.attr("__dlpack_c_exchange_api__");
    return static_cast<const DLPackExchangeAPI*>(capsule.get_pointer());
  }();
  return *api;
}

class Tensor {
 public:
  int dims() const { return view_.ndim; }
  int64_t size(int dim) const { return view_.shape[dim]; }
  bool is(DLDataTypeCode code, int bits) const {
    return view_.dtype.code == code && view_.dtype.bits == bits;
  }
  bool same_dtype(const Tensor& other) const {
    return is(static_cast<DLDataTypeCode>(other.view_.dtype.code), other.view_.dtype.bits);
  }
  bool same_device(const Tensor& other) const {
    return view_.device.device_type == other.view_.device.device_type &&
           view_.device.device_id == other.view_.device.device_id;
  }
  bool on_cuda() const { return view_.device.device_type == kDLCUDA; }
  int device() const { return view_.device.device_id; }

  // Rows of bits are int64 in Python and uint64 here.
  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<char*>(view_.data) + view_.byte_offset);
  }

 private:
  friend struct pybind11::detail::type_caster<Tensor>;
  DLTensor view_{};
};

// Calls `work` with a value of the C++ type of a float tensor.
template <class Work>
auto with_float(const Tensor& tensor, const Work& work) {
  return tensor.is(kDLFloat, 64) ? work(double{}) : work(float{});
}

}  // namespace gradsplinter

namespace pybind11::detail {

template <>
struct type_caster<gradsplinter::Tensor> {
  PYBIND11_TYPE_CASTER(gradsplinter::Tensor, const_name("torch.Tensor"));

  bool load(handle source, bool) {
    const auto& api = gradsplinter::torch_exchange();
    static const handle tensor = object(module_::import("torch").attr("Tensor")).release();
    if (!isinstance(source, tensor)) return false;
    if (api.dltensor_from_py_object_no_sync(source.ptr(), &value.view_) != 0) {
      throw error_already_set();
    }
    return true;
  }
};

}  // namespace pybind11::detail
