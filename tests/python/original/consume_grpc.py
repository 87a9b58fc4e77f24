import grpc
import json
import message_pb2
import message_pb2_grpc

channel = grpc.insecure_channel('localhost:50051')
stub = message_pb2_grpc.MessageBrokerServiceStub(channel)

# Poll for messages
request = message_pb2.ReceiveMessageRequest(topic="order.created")
response = stub.ReceiveMessage(request)

if response.has_message:
    payload = json.loads(response.payload)
    print(f"Received message {response.message_id}")
    print(f"Topic: {response.topic}")
    print(f"Payload: {payload}")
else:
    print("No messages available")
