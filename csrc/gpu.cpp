#include "gpu.h"

namespace py = pybind11;

namespace gradsplinter {

#ifdef GRADSPLINTER_CUDA

py::object TorchMemory::empty(const char* dtype, int64_t size) const {
  const py::module_ torch = py::module_::import("torch");
  using py::literals::operator""_a;
  return torch.attr("empty")(size, "dtype"_a = torch.attr(dtype),
                             "device"_a = torch.attr("device")("cuda", device_));
}

void* TorchMemory::get(int64_t bytes) {
  pieces_.push_back(empty("uint8", bytes));
  return py::cast<Tensor>(pieces_.back()).data<void>();
}

namespace {

// -> first and counts, tensors of as many entries as there are unique rows.
py::tuple unique_rows_op(const Tensor& rows, int hash_bits, int64_t slots, const Tensor& ids) {
  py::object first, counts;
  const auto call = [&](auto zero) {
    using Entry = decltype(zero);
    on_gpu(rows, [&](const cuda::Device& device) {
      const TorchMemory results(device.index);
      const auto make = [&](int64_t unique) {
        first = results.empty("int64", unique);
        counts = results.empty("int64", unique);
        return cuda::Unique{py::cast<Tensor>(first).data<int64_t>(),
                            py::cast<Tensor>(counts).data<int64_t>()};
      };
      cuda::unique_rows(rows.data<const Entry>(), rows.size(0), rows.size(1), hash_bits,
                        static_cast<uint64_t>(slots), ids.data<int64_t>(), make, device);
    });
  };
  if (rows.is(kDLBool, 8)) {
    call(uint8_t{});
  } else if (rows.is(kDLInt, 64)) {
    call(uint64_t{});
  } else {
    with_float(rows, call);
  }
  return py::make_tuple(first, counts);
}

cuda::ModeSlots slots_of(const Tensor& slots, const Tensor& rows) {
  return {slots.data<unsigned long long>(), static_cast<uint64_t>(slots.size(0)) - 1,
          rows.data<const uint64_t>(), rows.size(1)};
}

void find_modes_op(const Tensor& slots, const Tensor& rows, const Tensor& wanted,
                   const Tensor& ids) {
  on_gpu(slots, [&](const cuda::Device& device) {
    cuda::find_modes(slots_of(slots, rows), wanted.data<const uint64_t>(), wanted.size(0),
                     ids.data<int64_t>(), device);
  });
}

void enter_modes_op(const Tensor& slots, const Tensor& rows, int64_t begin, int64_t end) {
  on_gpu(slots, [&](const cuda::Device& device) {
    cuda::enter_modes(slots_of(slots, rows), begin, end, device);
  });
}

}  // namespace

void bind_gpu(py::module_& m) {
  m.attr("cuda") = true;
  m.attr("first_slots") = cuda::first_slots;
  m.def("unique_rows_on_gpu", unique_rows_op);
  m.def("find_modes", find_modes_op);
  m.def("enter_modes", enter_modes_op);
}

#else

void bind_gpu(py::module_& m) { m.attr("cuda") = false; }

#endif

}  // namespace gradsplinter
