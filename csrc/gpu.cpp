#include "gpu.h"

#include <set>
#include <string>

#include "cuda/table.h"

namespace py = pybind11;

namespace gradsplinter {

#ifdef GRADSPLINTER_CUDA

py::object TorchMemory::empty(const char* dtype, int64_t size) const {
  const py::module_ torch = py::module_::import("torch");
  using py::literals::operator""_a;
  return torch.attr("empty")(size, "dtype"_a = torch.attr(dtype),
                             "device"_a = torch.attr("device")("cuda", device_));
}

std::shared_ptr<void> TorchMemory::own(int64_t bytes) {
  auto tensor = std::make_shared<py::object>(empty("uint8", bytes));
  return {tensor, py::cast<Tensor>(*tensor).data<void>()};
}

OnDevice::OnDevice(int device) {
  if (cuda::current_device() == device) return;
  guard_ = py::module_::import("torch").attr("cuda").attr("device")(device);
  guard_.attr("__enter__")();
  cuda::make_current(device);
}

OnDevice::~OnDevice() {
  if (!guard_) return;
  const py::error_scope thrown;  // an exception may be on its way to Python
  try {
    guard_.attr("__exit__")(py::none(), py::none(), py::none());
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("gradsplinter, making a device current");
  }
}

namespace {

std::string why_not(int device) {
  std::string why = cuda::why_not_driver();
  if (!why.empty()) return why;
  const OnDevice on(device);
  return cuda::why_not_device();
}

}  // namespace

void need_usable(int device) {
  static std::set<int> usable;
  if (usable.count(device) > 0) return;
  const std::string why = why_not(device);
  if (!why.empty()) py::module_::import("gradsplinter._library").attr("cannot_run")(device, why);
  usable.insert(device);
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

void insert(cuda::ModeTable& table, const Tensor& signatures, const Tensor& counts,
            const Tensor& first, int64_t examples, int64_t undercount, const Tensor& ids) {
  on_gpu(signatures, [&](const cuda::Device& device) {
    table.insert(signatures.data<const uint64_t>(), counts.data<const int64_t>(),
                 first.data<const int64_t>(), signatures.size(0), examples, undercount,
                 ids.data<int64_t>(), device);
  });
}

int64_t missing(cuda::ModeTable& table, const Tensor& signatures) {
  int64_t found = 0;
  on_gpu(signatures, [&](const cuda::Device& device) {
    found = table.missing(signatures.data<const uint64_t>(), signatures.size(0), device);
  });
  return found;
}

void copy(cuda::ModeTable& table, const Tensor& signatures, const Tensor& counts,
          const Tensor& first) {
  on_gpu(signatures, [&](const cuda::Device& device) {
    table.copy_to(signatures.data<uint64_t>(), counts.data<int64_t>(), first.data<int64_t>(),
                  device);
  });
}

}  // namespace

void bind_gpu(py::module_& m) {
  using py::literals::operator""_a;
  m.attr("cuda") = GRADSPLINTER_CUDA;
  m.attr("first_slots") = cuda::first_slots;
  m.def("why_not_on_gpu", why_not);
  m.def("use_only_wide_on_gpu", [](bool value) { cuda::only_wide = value; });
  m.def("unique_rows_on_gpu", unique_rows_op);
  py::class_<cuda::ModeTable>(m, "GpuModeTable")
      .def(py::init<int64_t, int>(), "words"_a, "hash_bits"_a = 64)
      .def("__len__", &cuda::ModeTable::size)
      .def_property_readonly("examples", &cuda::ModeTable::examples)
      .def_property_readonly("undercount", &cuda::ModeTable::undercount)
      .def("insert", insert)
      .def("missing", missing)
      .def("copy", copy);
}

#else

void bind_gpu(py::module_& m) { m.attr("cuda") = ""; }

#endif

}  // namespace gradsplinter
