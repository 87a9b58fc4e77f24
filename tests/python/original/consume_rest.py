import requests

response = requests.get("http://localhost:8001/consume/order.created?max_messages=5")
data = response.json()

for message in data["messages"]:
    print(f"Message ID: {message['id']}")
    print(f"Payload: {message['payload']}")
