// What an op does on a GPU stream, with recorder/ in place of Metal; tests/metal/test_encode.py knows what is to be
// printed.
#include "metal/encode.h"
#include "metal/sources.h"
#include "mlx/backend/metal/device.h"
#include "ops/op.h"

namespace mx = mlx::core;
using namespace deltamoe;

// Four floats, in the memory of its input if nobody else holds that.
class InPlace : public Planned {
 public:
  using Planned::Planned;
  const char* name() const override { return "in_place"; }
  void eval_cpu(const Arrays&, Arrays&) override {}
  std::vector<Output> wanted(const Arrays&) const override { return {{{4}, mx::float32, 0}}; }
  std::optional<plan::Plan> plan(const Arrays&, plan::Device) const override {
    return plan::Plan{.temporaries = {},
                      .dispatches = {{.source = "some/source",
                                      .function = "in_place",
                                      .grid = {1, 1, 1},
                                      .threadgroup = {32, 1, 1},
                                      .buffers = {plan::input(0), plan::none(), plan::output(0)}}}};
  }
};

const std::map<std::string, metal::Source> metal::kSources = {{"some/source", {"digest", "// header\n"}}};

int main() {
  mx::array there({1.0F, 2.0F, 3.0F, 4.0F});
  mx::array part = mx::slice(there, {2}, {4});
  mx::array pending = mx::array({5.0F, 6.0F});
  mx::eval(there, part);
  part.wait();
  pending.set_status(mx::array::Status::evaluated);  // as if encoded a moment ago
  mx::array result({4}, mx::float32, nullptr, {});
  result.set_data(mx::allocator::malloc(result.nbytes()));
  mx::metal::names = {
      {there.buffer().ptr(), "there"}, {pending.buffer().ptr(), "pending"}, {result.buffer().ptr(), "result"}};

  const plan::Operand letter = plan::bytes('b');
  const plan::Dispatch first{.source = "some/source",
                             .function = "first<float, 3>",
                             .grid = {1, 2, 3},
                             .threadgroup = {32, 2, 1},
                             .buffers = {plan::input(0), plan::input(1), plan::input(2), plan::temporary(0), letter}};
  const plan::Dispatch second{.source = "some/source",
                              .function = "second",
                              .grid = {7, 1, 1},
                              .threadgroup = {64, 1, 1},
                              .buffers = {plan::temporary(0), plan::output(0)}};
  const plan::Plan plan{.temporaries = {12}, .dispatches = {first, second, first}};
  std::vector<mx::array> outputs{result};
  const mx::Stream stream = mx::default_stream(mx::Device::cpu);
  metal::encode(plan, stream, {there, part, pending}, outputs);
  std::cout << "family " << metal::device().family << "\n";

  plan::Plan wide{.temporaries = {}, .dispatches = {second}};
  wide.dispatches[0].threadgroup = {65, 1, 1};
  try {
    metal::encode(wide, stream, {}, outputs);
  } catch (const std::runtime_error& error) {
    std::cout << error.what() << "\n";
  }

  Arrays donors{mx::array({1.0F, 2.0F, 3.0F, 4.0F})};
  mx::metal::names[donors[0].buffer().ptr()] = "donor";
  InPlace in_place(stream);
  for (const bool held : {true, false}) {
    const std::optional<mx::array> holder = held ? std::optional(donors[0]) : std::nullopt;
    Arrays results{mx::array({4}, mx::float32, nullptr, {})};
    in_place.eval_gpu(donors, results);
    std::cout << (results[0].buffer().ptr() == donors[0].buffer().ptr() ? "in place" : "own memory") << "\n";
  }

  mx::array turned = mx::transpose(mx::reshape(there, {2, 2}));
  const mx::array later = mx::negative(there);
  mx::eval(turned);
  for (const mx::array& input : {there, part, turned, later}) {
    const mx::array settled = settle({input}, stream)[0];
    std::cout << (settled.id() == input.id() ? "as it is" : settled.primitive().name()) << "\n";
  }
  std::cout << "status " << (turned.status() == mx::array::Status::available) << "\n";
}
