// Classifies documents on several threads, which share a model: batch HAN.safetensors
#include <tessera/session.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <thread>
#include <vector>

int main(int, char** argv) try {
  const std::vector<std::string_view> reviews{
      "A splendid film. I loved it.", "Dull, bad and far too long. A waste of time.",
      "A great cast. Wonderful!",     "The worst film of the year. Awful acting.",
      "I loved it. See it!",          "Boring. Terrible."};
  constexpr std::size_t kThreads = 2;

  const tessera::Model model = tessera::Model::open(argv[1]);  // any thread may call it
  std::vector<tessera::Classification> answers(reviews.size());
  std::vector<std::exception_ptr> faults(kThreads);
  std::atomic<std::size_t> next = 0;
  const auto work = [&](std::size_t thread) {
    try {
      for (std::size_t i = next++; i < reviews.size(); i = next++)
        answers[i] = model.classify(reviews[i]);
    } catch (...) {
      faults[thread] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  }
  for (const std::exception_ptr& fault : faults)
    if (fault) std::rethrow_exception(fault);
  for (const tessera::Classification& answer : answers)
    std::printf("%s\n", model.classes()[answer.label].name.c_str());
} catch (const std::runtime_error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
