// Classifies a review and shows what its label rests on: classify HAN.safetensors
#include <tessera/session.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string_view>

int main(int, char** argv) try {
  const std::string_view review = "We saw it on Sunday. A splendid film, and I loved it.";

  tessera::Session han = tessera::Session::open(argv[1]);
  const tessera::Classification answer = han.classify(review);
  std::printf("%s %.2f\n", han.classes()[answer.label].name.c_str(),
              answer.probabilities[answer.label]);

  // Attention names parts of the text by their bytes. The weights of sentences sum to 1.
  double sum = 0;
  for (const tessera::AttendedSentence& sentence : answer.sentences) {
    sum += sentence.weight;
    const auto word = std::ranges::max_element(sentence.words, {}, &tessera::AttendedWord::weight);
    const std::string_view text = review.substr(word->begin, word->end - word->begin);
    std::printf("sentence %.2f, most of it on '%.*s'\n", sentence.weight,
                static_cast<int>(text.size()), text.data());
  }
  std::printf("weights of %zu sentences sum to %.3f\n", answer.sentences.size(), sum);
} catch (const std::runtime_error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
