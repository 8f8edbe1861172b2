// Loads a bundle as TensorFlow Serving does: TensorFlow's C++ loader and a
// session, no Python. Prints the answer to a history of one item.
//
//   saved_model_loader MODEL_DIR SIGNATURE ITEM [OP_LIBRARY...]

#include <iostream>

#include "tensorflow/c/c_api.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"

int main(int argc, char** argv) {
  for (int i = 4; i < argc; ++i) {
    TF_Status* status = TF_NewStatus();
    TF_LoadLibrary(argv[i], status);
    if (TF_GetCode(status) != TF_OK) {
      std::cerr << TF_Message(status) << "\n";
      return 1;
    }
  }
  tensorflow::SavedModelBundle bundle;
  auto status = tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &bundle);
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  const auto& signature = bundle.GetSignatures().at(argv[2]);
  tensorflow::Tensor history(tensorflow::DT_STRING, {1, 1});
  history.flat<tensorflow::tstring>()(0) = argv[3];
  std::vector<tensorflow::Tensor> outputs;
  status = bundle.session->Run({{signature.inputs().at("history").name(), history}},
                               {signature.outputs().at("item_ids").name()}, {}, &outputs);
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  auto ids = outputs[0].flat<tensorflow::tstring>();
  for (int i = 0; i < ids.size(); ++i) std::cout << std::string(ids(i)) << "\n";
}
