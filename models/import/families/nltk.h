// What families whose texts NLTK cut have in common.
#pragma once

namespace tessera {

inline constexpr const char* kNltkWords =
    "its words were cut by NLTK's tokenizer, which keeps punctuation as words and "
    "splits contractions; ours cuts at white space and punctuation, so answers on "
    "texts differ somewhat (on word ids they are the same)";

}  // namespace tessera
