import grpc
import json
import message_pb2
import message_pb2_grpc

# Create channel and stub
channel = grpc.insecure_channel('localhost:50051')
stub = message_pb2_grpc.MessageBrokerServiceStub(channel)

# Prepare message
payload = json.dumps({
    "order_id": "ORD-123",
    "total": 99.99,
    "customer_id": "CUST-456"
})

request = message_pb2.SendMessageRequest(
    topic="order.created",
    payload=payload,
    reply_to="order-service"
)

# Send message
response = stub.SendMessage(request)
if response.success:
    print(f"Message sent! ID: {response.message_id}")
else:
    print(f"Error: {response.error_message}")
