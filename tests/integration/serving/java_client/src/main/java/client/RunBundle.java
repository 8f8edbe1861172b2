package client;

import com.google.protobuf.ByteString;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.Session;
import org.tensorflow.Tensor;
import org.tensorflow.framework.DataType;
import org.tensorflow.framework.TensorProto;
import org.tensorflow.framework.TensorShapeProto;
import org.tensorflow.ndarray.NdArrays;
import org.tensorflow.ndarray.Shape;
import org.tensorflow.proto.SignatureDef;
import org.tensorflow.proto.TensorInfo;
import org.tensorflow.types.TBool;
import org.tensorflow.types.TFloat32;
import org.tensorflow.types.TInt32;
import org.tensorflow.types.TString;
import tensorflow.serving.Predict.PredictRequest;
import tensorflow.serving.Predict.PredictResponse;

/** Runs requests on a bundle in TensorFlow's runtime for Java: DIRECTORY REQUESTS ANSWERS. */
public final class RunBundle {
  private RunBundle() {}

  public static void main(String[] args) throws Exception {
    try (SavedModelBundle bundle = SavedModelBundle.load(args[0], "serve");
        InputStream requests = Files.newInputStream(Path.of(args[1]));
        OutputStream answers = Files.newOutputStream(Path.of(args[2]))) {
      SignatureDef signature =
          bundle.metaGraphDef().getSignatureDefOrThrow("serving_default");
      PredictRequest request;
      while ((request = PredictRequest.parseDelimitedFrom(requests)) != null) {
        run(bundle.session(), signature, request).writeDelimitedTo(answers);
      }
    }
  }

  private static PredictResponse run(
      Session session, SignatureDef signature, PredictRequest request) throws Exception {
    Map<String, TensorProto> inputs = new HashMap<>();
    for (var entry : signature.getDefaultsMap().entrySet()) {
      inputs.put(entry.getKey(), TensorProto.parseFrom(entry.getValue().toByteString()));
    }
    inputs.putAll(request.getInputsMap());
    List<Tensor> fed = new ArrayList<>();
    Session.Runner runner = session.runner();
    for (var entry : inputs.entrySet()) {
      fed.add(toTensor(entry.getValue()));
      TensorInfo slot = signature.getInputsOrThrow(entry.getKey());
      runner.feed(slot.getName(), fed.get(fed.size() - 1));
    }
    List<String> names = new ArrayList<>(signature.getOutputsMap().keySet());
    for (String name : names) {
      runner.fetch(signature.getOutputsOrThrow(name).getName());
    }
    PredictResponse.Builder response = PredictResponse.newBuilder();
    try (Result result = runner.run()) {
      for (int i = 0; i < names.size(); i++) {
        response.putOutputs(names.get(i), toProto(result.get(i)));
      }
    } finally {
      fed.forEach(Tensor::close);
    }
    return response.build();
  }

  private static Tensor toTensor(TensorProto proto) {
    long[] sizes =
        proto.getTensorShape().getDimList().stream().mapToLong(d -> d.getSize()).toArray();
    Shape shape = Shape.of(sizes);
    switch (proto.getDtype()) {
      case DT_STRING:
        var texts = NdArrays.ofObjects(byte[].class, shape);
        int next = 0;
        for (var text : texts.scalars()) {
          text.setObject(value(proto.getStringValList(), next++).toByteArray());
        }
        return TString.tensorOfBytes(texts);
      case DT_INT32:
        TInt32 ints = TInt32.tensorOf(shape);
        next = 0;
        for (var number : ints.scalars()) {
          number.setInt(value(proto.getIntValList(), next++));
        }
        return ints;
      case DT_FLOAT:
        TFloat32 floats = TFloat32.tensorOf(shape);
        next = 0;
        for (var number : floats.scalars()) {
          number.setFloat(value(proto.getFloatValList(), next++));
        }
        return floats;
      case DT_BOOL:
        TBool bools = TBool.tensorOf(shape);
        next = 0;
        for (var truth : bools.scalars()) {
          truth.setBoolean(value(proto.getBoolValList(), next++));
        }
        return bools;
      default:
        throw new IllegalArgumentException("inputs of type " + proto.getDtype());
    }
  }

  /** The last value stands for all that follow. */
  private static <T> T value(List<T> values, int i) {
    return values.get(Math.min(i, values.size() - 1));
  }

  private static TensorProto toProto(Tensor tensor) {
    TensorProto.Builder proto = TensorProto.newBuilder();
    TensorShapeProto.Builder shape = TensorShapeProto.newBuilder();
    for (long size : tensor.shape().asArray()) {
      shape.addDim(TensorShapeProto.Dim.newBuilder().setSize(size));
    }
    proto.setTensorShape(shape);
    if (tensor instanceof TString texts) {
      proto.setDtype(DataType.DT_STRING);
      texts.asBytes().scalars().forEach(t -> proto.addStringVal(ByteString.copyFrom(t.getObject())));
    } else if (tensor instanceof TFloat32 floats) {
      proto.setDtype(DataType.DT_FLOAT);
      floats.scalars().forEach(f -> proto.addFloatVal(f.getFloat()));
    } else if (tensor instanceof TInt32 ints) {
      proto.setDtype(DataType.DT_INT32);
      ints.scalars().forEach(i -> proto.addIntVal(i.getInt()));
    } else {
      throw new IllegalArgumentException("outputs of type " + tensor.dataType());
    }
    return proto.build();
  }
}
