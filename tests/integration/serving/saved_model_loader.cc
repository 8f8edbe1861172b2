// Loads a pushed bundle as TF Serving does, with TensorFlow's C++ loader and no
// Python, and asks its serving_default for one history.
//
//   saved_model_loader BUNDLE OP_LIBRARY|- ITEM_ID...
//
// Prints one line per recommended item: id, score, interest.

#include <iostream>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tensorflow/c/c_api.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: " << argv[0] << " BUNDLE OP_LIBRARY|- ITEM_ID...\n";
    return 2;
  }
  const std::string bundle_dir = argv[1], library = argv[2];
  if (library != "-") {
    TF_Status* status = TF_NewStatus();
    TF_LoadLibrary(library.c_str(), status);
    if (TF_GetCode(status) != TF_OK) {
      std::cerr << "cannot load " << library << ": " << TF_Message(status) << "\n";
      return 1;
    }
    TF_DeleteStatus(status);
  }
  tensorflow::SavedModelBundle bundle;
  auto status = tensorflow::LoadSavedModel({}, {}, bundle_dir, {"serve"}, &bundle);
  if (!status.ok()) {
    std::cerr << "cannot load " << bundle_dir << ": " << status.ToString() << "\n";
    return 1;
  }
  const auto& signature = bundle.GetSignatures().at("serving_default");
  std::vector<std::pair<std::string, tensorflow::Tensor>> feeds;
  for (const auto& [name, info] : signature.inputs()) {
    tensorflow::Tensor value;
    if (name == "history") {
      value = tensorflow::Tensor(tensorflow::DT_STRING, {1, argc - 3});
      for (int i = 3; i < argc; ++i) value.flat<tensorflow::tstring>()(i - 3) = argv[i];
    } else if (!value.FromProto(signature.defaults().at(name))) {
      std::cerr << "cannot read the default of " << name << "\n";
      return 1;
    }
    feeds.emplace_back(info.name(), value);
  }
  std::vector<std::string> fetches;
  for (const char* name : {"item_ids", "scores", "interest_index"}) {
    fetches.push_back(signature.outputs().at(name).name());
  }
  std::vector<tensorflow::Tensor> outputs;
  status = bundle.session->Run(feeds, fetches, {}, &outputs);
  if (!status.ok()) {
    std::cerr << "cannot run: " << status.ToString() << "\n";
    return 1;
  }
  for (int i = 0; i < outputs[0].NumElements(); ++i) {
    std::cout << outputs[0].flat<tensorflow::tstring>()(i) << " " << outputs[1].flat<float>()(i)
              << " " << outputs[2].flat<int>()(i) << "\n";
  }
  return 0;
}
