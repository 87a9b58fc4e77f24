import requests

response = requests.post("http://localhost:8001/register", json={
    "service_name": "payment-service",
    "topics": ["payment.processed", "payment.failed"]
})
print(response.json())
