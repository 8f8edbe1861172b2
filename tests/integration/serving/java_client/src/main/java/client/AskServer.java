package client;

import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import tensorflow.serving.Predict.PredictRequest;
import tensorflow.serving.Predict.PredictResponse;

/** Asks a server over gRPC: HOST:PORT REQUESTS ANSWERS. */
public final class AskServer {
  private static final MethodDescriptor<PredictRequest, PredictResponse> PREDICT =
      MethodDescriptor.<PredictRequest, PredictResponse>newBuilder()
          .setType(MethodDescriptor.MethodType.UNARY)
          .setFullMethodName("tensorflow.serving.PredictionService/Predict")
          .setRequestMarshaller(ProtoUtils.marshaller(PredictRequest.getDefaultInstance()))
          .setResponseMarshaller(ProtoUtils.marshaller(PredictResponse.getDefaultInstance()))
          .build();

  private AskServer() {}

  public static void main(String[] args) throws Exception {
    ManagedChannel channel = NettyChannelBuilder.forTarget(args[0]).usePlaintext().build();
    try (InputStream requests = Files.newInputStream(Path.of(args[1]));
        OutputStream answers = Files.newOutputStream(Path.of(args[2]))) {
      PredictRequest request;
      while ((request = PredictRequest.parseDelimitedFrom(requests)) != null) {
        ClientCalls.blockingUnaryCall(channel, PREDICT, CallOptions.DEFAULT, request)
            .writeDelimitedTo(answers);
      }
    } finally {
      channel.shutdownNow();
    }
  }
}
