import requests

response = requests.post("http://localhost:8001/publish", json={
    "topic": "order.created",
    "message": {
        "order_id": "ORD-123",
        "total": 99.99,
        "customer_id": "CUST-456"
    }
})
print(response.json())
