// gradsplinter._C: the operations on contiguous tensors, whose results Python has allocated. The
// functions are called through torch.ops.gradsplinter (gradsplinter/_library.py), never directly.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <type_traits>

#include "gpu.h"
#include "mode_table.h"
#include "ops.h"
#include "regions.h"
#include "scalar.h"
#include "tensor.h"

namespace py = pybind11;

namespace gradsplinter {
namespace {

bool python_interrupted() {
  const py::gil_scoped_acquire lock;
  return PyErr_CheckSignals() != 0;
}

// Runs `work` without Python's lock; a KeyboardInterrupt that `work` noticed is raised here.
template <class Work>
auto unlocked(int threads, const Work& work) {
  const Run run{threads, python_interrupted};
  try {
    const py::gil_scoped_release unlock;
    return work(run);
  } catch (const Interrupted&) {
    throw py::error_already_set();
  }
}

template <class T>
std::vector<Layer<T>> layers_of(const std::vector<Tensor>& weights,
                                const std::vector<Tensor>& biases) {
  std::vector<Layer<T>> layers;
  for (size_t l = 0; l < weights.size(); ++l) {
    layers.push_back({weights[l].data<const T>(),
                      biases.empty() ? nullptr : biases[l].data<const T>(), weights[l].size(1),
                      weights[l].size(0)});
  }
  return layers;
}

// What would lead out of bounds. gradsplinter.ops says better what is wrong; this is for those who
// call an operator.
void need(bool condition, const char* what) {
  if (!condition) throw py::value_error(std::string("an operator of gradsplinter needs ") + what);
}

void need_layers(const std::vector<Tensor>& weights, const Tensor& like) {
  need(like.is(kDLFloat, 32) || like.is(kDLFloat, 64), "float32 or float64");
  need(!weights.empty(), "at least one layer");
  for (size_t l = 0; l < weights.size(); ++l) {
    need(weights[l].dims() == 2 && weights[l].same_dtype(like), "matrices of one dtype");
    need(weights[l].same_device(like), "tensors on one device");
    need(l == 0 || weights[l].size(1) == weights[l - 1].size(0), "layers that chain");
  }
}

// -> the words of a signature.
int64_t check_forward(const Tensor& x, const std::vector<Tensor>& weights,
                      const std::vector<Tensor>& biases, const std::vector<int64_t>& sites) {
  need_layers(weights, x);
  need(x.dims() == 2 && x.size(1) == weights[0].size(1), "x [N, h_0]");
  need(biases.size() == weights.size(), "a bias [h_l] for each layer");
  for (size_t l = 0; l < weights.size(); ++l) {
    need(
        biases[l].dims() == 1 && biases[l].same_dtype(x) && biases[l].size(0) == weights[l].size(0),
        "a bias [h_l] for each layer");
    need(biases[l].same_device(x), "tensors on one device");
  }
  int64_t words = 0, before = 0;
  for (const int64_t site : sites) {
    need(before < site && site < static_cast<int64_t>(weights.size()),
         "hidden sites in ascending order");
    words += words_of(weights[static_cast<size_t>(site) - 1].size(0));
    before = site;
  }
  return words;
}

void check_chain(const std::vector<Tensor>& weights, bool output, const Tensor& patterns,
                 const Tensor& directions) {
  need_layers(weights, directions);
  need(directions.dims() == 2 && directions.size(1) == weights.back().size(0),
       "directions [D, h_target]");
  need(patterns.dims() == 2 && patterns.is(kDLInt, 64), "int64 patterns [U, words]");
  need(patterns.same_device(directions), "tensors on one device");
  int64_t words = 0;
  for (size_t l = 0; l + (output ? 1 : 0) < weights.size(); ++l) {
    words += words_of(weights[l].size(0));
  }
  need(patterns.size(1) == words, "patterns [U, words] of the sites between");
  if (patterns.on_cuda()) return;  // where such bits are not read, and to look costs a wait
  int64_t word = -1;               // the last one of each site
  for (size_t l = 0; l + (output ? 1 : 0) < weights.size(); ++l) {
    const int64_t width = weights[l].size(0);
    word += words_of(width);
    if (width % 64 == 0) continue;
    uint64_t bits = 0;
    for (int64_t u = 0; u < patterns.size(0); ++u) {
      bits |= patterns.data<const uint64_t>()[u * words + word];
    }
    if (bits >> (width % 64) == 0) continue;
    throw py::value_error(
        "patterns must have no bits after the last unit of a site, got some in word " +
        std::to_string(word) + ", which ends a site of " + std::to_string(width) + " units");
  }
}

void signatures_op(const Tensor& x, const std::vector<Tensor>& weights,
                   const std::vector<Tensor>& biases, const std::vector<int64_t>& sites,
                   const Tensor& words, const std::optional<Tensor>& y, int threads) {
  with_float(x, [&](auto zero) {
    using T = decltype(zero);
    const auto call = [&](const auto& where) {
      signatures(layers_of<T>(weights, biases), sites, x.data<const T>(), x.size(0),
                 words.data<uint64_t>(), y ? y->data<T>() : nullptr, where);
    };
    if (!on_gpu(x, call)) unlocked(threads, call);
  });
}

int64_t unique_signatures_op(const Tensor& x, const std::vector<Tensor>& weights,
                             const std::vector<Tensor>& biases, const std::vector<int64_t>& sites,
                             const Tensor& unique, const Tensor& first, const Tensor& counts,
                             const Tensor& ids, int threads) {
  return with_float(x, [&](auto zero) {
    using T = decltype(zero);
    return unlocked(threads, [&](const Run& run) {
      return unique_signatures(layers_of<T>(weights, biases), sites, x.data<const T>(), x.size(0),
                               unique.data<uint64_t>(), first.data<int64_t>(),
                               counts.data<int64_t>(), ids.data<int64_t>(), run);
    });
  });
}

int64_t unique_rows_op(const Tensor& rows, int hash_bits, const Tensor& first, const Tensor& counts,
                       const Tensor& ids, int threads) {
  const auto call = [&](auto zero) {
    using Entry = decltype(zero);
    return unlocked(threads, [&](const Run& run) {
      return unique_rows(rows.data<const Entry>(), rows.size(0), rows.size(1), hash_bits,
                         first.data<int64_t>(), counts.data<int64_t>(), ids.data<int64_t>(), run);
    });
  };
  if (rows.is(kDLBool, 8)) return call(uint8_t{});
  return rows.is(kDLInt, 64) ? call(uint64_t{}) : with_float(rows, call);
}

void pack_bits_op(const Tensor& bits, const Tensor& words, int threads) {
  const auto call = [&](const auto& where) {
    pack_bits(bits.data<const uint8_t>(), bits.size(0), bits.size(1), words.data<uint64_t>(),
              where);
  };
  if (!on_gpu(bits, call)) unlocked(threads, call);
}

void hash_rows_op(const Tensor& rows, const Tensor& hashes, int threads) {
  const auto call = [&](const auto& where) {
    hash_rows(rows.data<const uint64_t>(), rows.size(0), rows.size(1), hashes.data<uint64_t>(),
              where);
  };
  if (!on_gpu(rows, call)) unlocked(threads, call);
}

void jacobian_op(const std::vector<Tensor>& weights, bool output, const Tensor& patterns,
                 const Tensor& directions, const Tensor& out, int threads) {
  with_float(directions, [&](auto zero) {
    using T = decltype(zero);
    const auto call = [&](const auto& where) {
      jacobian(layers_of<T>(weights, {}), output, patterns.data<const uint64_t>(), patterns.size(0),
               directions.data<const T>(), directions.size(0), out.data<T>(), where);
    };
    if (!on_gpu(directions, call)) unlocked(threads, call);
  });
}

void cross_op(const Tensor& jacobian, bool normalize, const Tensor& out, int threads) {
  with_float(jacobian, [&](auto zero) {
    using T = decltype(zero);
    const auto call = [&](const auto& where) {
      cross(jacobian.data<const T>(), jacobian.size(0), jacobian.size(1), jacobian.size(2),
            normalize, out.data<T>(), where);
    };
    if (!on_gpu(jacobian, call)) unlocked(threads, call);
  });
}

void gram_op(const std::vector<Tensor>& weights, bool output, const Tensor& patterns,
             const Tensor& directions, bool normalize, const Tensor& out, int threads) {
  with_float(directions, [&](auto zero) {
    using T = decltype(zero);
    const auto call = [&](const auto& where) {
      gram(layers_of<T>(weights, {}), output, patterns.data<const uint64_t>(), patterns.size(0),
           directions.data<const T>(), directions.size(0), normalize, out.data<T>(), where);
    };
    if (!on_gpu(directions, call)) unlocked(threads, call);
  });
}

void nearest_signatures_op(const Tensor& queries, const Tensor& references, const Tensor& group_of,
                           int64_t groups, const Tensor& distance, const Tensor& index,
                           int threads) {
  unlocked(threads, [&](const Run& run) {
    nearest(queries.data<const uint64_t>(), queries.size(0), references.data<const uint64_t>(),
            references.size(0), queries.size(1), group_of.data<const int64_t>(), groups,
            distance.data<int32_t>(), index.data<int64_t>(), run);
  });
}

void lengths_op(const Tensor& rows, const Tensor& out, int threads) {
  with_float(rows, [&](auto zero) {
    using T = decltype(zero);
    unlocked(threads, [&](const Run& run) {
      lengths(rows.data<const T>(), rows.size(0), rows.size(1), out.data<double>(), run);
    });
  });
}

void join_neighbours_op(const Tensor& rows, const Tensor& lengths, double angle, double cosine,
                        const Tensor& bucket_of, int64_t buckets, const Tensor& parents,
                        int threads) {
  with_float(rows, [&](auto zero) {
    using T = decltype(zero);
    unlocked(threads, [&](const Run& run) {
      join_neighbours(NeighbourRows<T>{rows.data<const T>(), lengths.data<const double>(),
                                       rows.size(0), rows.size(1), angle, cosine},
                      bucket_of.data<const int64_t>(), buckets, parents.data<int64_t>(), run);
    });
  });
}

void leaders_op(const Tensor& rows, const Tensor& lengths, double angle, double cosine,
                const Tensor& cluster_of, int64_t clusters, const Tensor& leader_of, int threads) {
  with_float(rows, [&](auto zero) {
    using T = decltype(zero);
    unlocked(threads, [&](const Run& run) {
      leaders(NeighbourRows<T>{rows.data<const T>(), lengths.data<const double>(), rows.size(0),
                               rows.size(1), angle, cosine},
              cluster_of.data<const int64_t>(), clusters, leader_of.data<int64_t>(), run);
    });
  });
}

// Hidden layers of a network whose input has `inputs` coordinates.
std::vector<Layer<double>> hidden_layers(const std::vector<Tensor>& weights,
                                         const std::vector<Tensor>& biases, int64_t inputs) {
  need(weights.size() == biases.size(), "a bias for each layer");
  for (size_t l = 0; l < weights.size(); ++l) {
    const Tensor &weight = weights[l], &bias = biases[l];
    need(weight.is(kDLFloat, 64) && bias.is(kDLFloat, 64), "float64");
    need(!weight.on_cuda() && !bias.on_cuda(), "tensors on the CPU");
    need(weight.dims() == 2 && weight.size(1) == (l == 0 ? inputs : weights[l - 1].size(0)),
         "layers that chain");
    need(bias.dims() == 1 && bias.size(0) == weight.size(0), "a bias [h_l] for each layer");
  }
  return layers_of<double>(weights, biases);
}

std::vector<double> terms_of(const Tensor& terms, const std::vector<Layer<double>>& hidden) {
  const int64_t units = hidden.empty() ? 0 : hidden[0].outputs;
  need(terms.is(kDLFloat, 64) && terms.dims() == 1 && terms.size(0) == units,
       "float64 terms of the first layer's units");
  const auto* data = terms.data<const double>();
  return {data, data + units};
}

PlaneRegions plane_regions(const std::vector<Tensor>& weights, const std::vector<Tensor>& biases,
                           const Tensor& terms, const Tensor& domain, int64_t most, int threads) {
  need(domain.is(kDLFloat, 64) && domain.dims() == 2 && domain.size(0) > 2 && domain.size(1) == 2,
       "a float64 domain [corners, 2]");
  const std::vector<Layer<double>> hidden = hidden_layers(weights, biases, 2);
  const std::vector<double> of_first = terms_of(terms, hidden);
  return unlocked(threads, [&](const Run& run) {
    return PlaneRegions(hidden, of_first, domain.data<const double>(), domain.size(0), most, run);
  });
}

void write_plane_regions(const PlaneRegions& regions, const Tensor& vertices, const Tensor& offsets,
                         const Tensor& signatures, const Tensor& areas, const Tensor& centroids,
                         const Tensor& neighbours, int threads) {
  unlocked(threads, [&](const Run& run) {
    regions.write(vertices.data<double>(), offsets.data<int64_t>(), signatures.data<uint64_t>(),
                  areas.data<double>(), centroids.data<double>(), neighbours.data<int64_t>(), run);
  });
}

LineRegions line_regions(const std::vector<Tensor>& weights, const std::vector<Tensor>& biases,
                         const Tensor& terms) {
  const std::vector<Layer<double>> hidden = hidden_layers(weights, biases, 1);
  const std::vector<double> of_first = terms_of(terms, hidden);
  return unlocked(1, [&](const Run& run) { return LineRegions(hidden, of_first, run); });
}

void write_line_regions(const LineRegions& regions, const Tensor& breakpoints,
                        const Tensor& signatures) {
  std::copy(regions.breakpoints().begin(), regions.breakpoints().end(), breakpoints.data<double>());
  std::copy(regions.signatures().begin(), regions.signatures().end(), signatures.data<uint64_t>());
}

}  // namespace
}  // namespace gradsplinter

PYBIND11_MODULE(_C, m) {
  using namespace gradsplinter;
  torch_exchange();
  m.def("check_forward", check_forward);
  m.def("check_chain", check_chain);
  m.def("signatures", signatures_op);
  m.def("unique_rows", unique_rows_op);
  m.def("unique_signatures", unique_signatures_op);
  m.def("hash_rows", hash_rows_op);
  m.def("pack_bits", pack_bits_op);
  m.def("jacobian", jacobian_op);
  m.def("cross", cross_op);
  m.def("gram", gram_op);
  m.def("nearest_signatures", nearest_signatures_op);
  m.def("lengths", lengths_op);
  m.def("join_neighbours", join_neighbours_op);
  m.def("leaders", leaders_op);
  py::class_<ModeTable>(m, "ModeTable")
      .def(py::init<int64_t>())
      .def("__len__", &ModeTable::size)
      .def_property_readonly("examples", &ModeTable::examples)
      .def_property_readonly("undercount", &ModeTable::undercount)
      .def("insert", &ModeTable::insert)
      .def("missing", &ModeTable::missing)
      .def("copy", &ModeTable::copy);
  py::class_<PlaneRegions>(m, "PlaneRegions")
      .def(py::init(&plane_regions))
      .def_property_readonly("regions", &PlaneRegions::regions)
      .def_property_readonly("sides", &PlaneRegions::sides)
      .def_property_readonly("complete", &PlaneRegions::complete)
      .def_property_readonly("cleared", &PlaneRegions::cleared)
      .def("write", &write_plane_regions);
  py::class_<LineRegions>(m, "LineRegions")
      .def(py::init(&line_regions))
      .def_property_readonly("regions", &LineRegions::regions)
      .def_property_readonly("cleared", &LineRegions::cleared)
      .def("write", &write_line_regions);
  m.def("instruction_sets", instruction_sets);
  m.def("instruction_set", [] { return kernels().name; });
  m.def("use_instruction_set", [](const std::string& name) { use(name.c_str()); });
  bind_gpu(m);
}
