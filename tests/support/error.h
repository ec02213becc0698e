// The text of the Error that an action must throw.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "kernels/error.h"

namespace tessera::test {

inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

}  // namespace tessera::test
