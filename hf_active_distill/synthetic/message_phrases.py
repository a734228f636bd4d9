"""The phrases of the support messages. `{item}` is one of `ITEMS`; no phrase is part of another."""

from __future__ import annotations


ITEMS = (
    "lamp", "kettle", "jacket", "phone", "camera", "desk", "bike", "watch", "printer", "tent", "radio", "sofa",
    "blender", "mirror", "guitar", "heater",
)  # fmt: skip

DESCRIPTIONS = {
    "billing": "charges, invoices, fees and payments",
    "delivery": "where a parcel is and when it comes",
    "account": "signing in, passwords and personal data",
    "returns": "sending something back, exchange and refund",
    "technical fault": "something that does not work",
    "cancellation": "ending an order or a contract before it comes",
}

CUES = {
    "billing": (
        "I was charged twice for the {item}",
        "the invoice for the {item} is too high",
        "my card was debited by mistake",
        "the receipt shows a wrong amount",
        "there is a strange fee on my bill",
        "the discount on the {item} was not applied",
        "the price at checkout differed from the page",
        "please correct the tax on my statement",
        "the voucher was not deducted",
        "I paid by transfer and you sent a reminder",
        "an instalment was taken too early",
        "the surcharge for the {item} seems odd",
    ),
    "delivery": (
        "my parcel has not arrived",
        "the courier left the {item} at another door",
        "tracking has not moved for days",
        "when will the {item} get here",
        "the shipment is stuck at the depot",
        "the driver never rang the bell",
        "the package went to a former address",
        "the van came while I was out",
        "is the {item} on its way",
        "the carrier lost the box",
        "dispatch of the {item} is late",
        "customs still hold the consignment",
    ),
    "account": (
        "I cannot sign in any more",
        "the password link does nothing",
        "please change the email in my profile",
        "somebody else uses my login",
        "my user name was rejected",
        "the verification code never comes",
        "I want my personal data deleted",
        "two profiles exist under my name",
        "the app logs me out at once",
        "I forgot the security question",
        "my membership level looks wrong",
        "the newsletter settings are not saved",
    ),
    "returns": (
        "I want to send the {item} back",
        "the {item} has the wrong size",
        "how do I exchange the {item}",
        "where is my refund",
        "I need a label to ship the {item} to you",
        "the {item} is not what was pictured",
        "may I swap the colour of the {item}",
        "I changed my mind about the {item}",
        "the warehouse refused what I posted back",
        "I received a {item} that I did not choose",
        "is the trial period over for the {item}",
        "the reimbursement is still open",
    ),
    "technical fault": (
        "the {item} does not switch on",
        "the {item} makes a loud noise",
        "the screen of the {item} flickers",
        "the battery drains within an hour",
        "the {item} overheats",
        "a button on the {item} is jammed",
        "the {item} shows an error code",
        "the firmware of the {item} crashes",
        "the plug of the {item} sparks",
        "the motor of the {item} stalls",
        "the sensor reads nonsense",
        "the {item} leaks",
    ),
    "cancellation": (
        "please cancel the {item}",
        "I no longer want the {item} to be sent",
        "stop my subscription",
        "end the contract at the next date",
        "withdraw my order before it leaves",
        "I ordered the {item} by accident",
        "terminate the service plan",
        "do not renew my plan",
        "call off the booking",
        "I revoke the purchase of the {item}",
        "drop the {item} from the pending basket",
        "I give notice for the warranty plan",
    ),
}

DETAILS = {
    "billing": (
        "the bank shows the debit since monday",
        "the sum on the invoice does not add up",
        "I have the receipt and the bill here",
        "the payment went through on friday",
    ),
    "delivery": (
        "the tracking page says in transit",
        "the courier gave no date",
        "the parcel should have come on monday",
        "I waited for the driver all friday",
    ),
    "account": (
        "I tried the login with a new password",
        "the profile page asks for a code",
        "the email on the login is old",
        "the settings page shows nothing",
    ),
    "returns": (
        "it is unused and in its wrapping",
        "I would take an exchange or the refund",
        "the return form was not in the wrapping",
        "I can post it back on monday",
    ),
    "technical fault": (
        "a restart did not fix it",
        "the manual says nothing of this error",
        "it broke on the second day",
        "the light blinks red",
    ),
    "cancellation": (
        "it has not been dispatched yet so this should be easy",
        "please confirm the end of the contract",
        "the notice period is kept",
        "I do not need it any more",
    ),
}

# What a message says that it is not about.
NAMED = {
    "billing": "a charge",
    "delivery": "a parcel",
    "account": "a password",
    "returns": "a refund",
    "technical fault": "an error",
    "cancellation": "a contract",
}
DISTRACTORS = (
    "this is not about {}",
    "I am not writing because of {}",
    "last month I wrote about {} but that is done",
)

# Requests that several classes could make, and how often each does.
VAGUE = {
    "something went wrong with the {item}": {"technical fault": 0.4, "returns": 0.3, "delivery": 0.3},
    "I need help with my order": {"delivery": 0.5, "cancellation": 0.2, "billing": 0.3},
    "the website would not let me finish": {"account": 0.6, "billing": 0.4},
    "I am not happy with the {item}": {"returns": 0.6, "technical fault": 0.4},
    "can you look into my case": {"billing": 0.4, "delivery": 0.3, "account": 0.3},
    "I would like to undo what I did": {"cancellation": 0.6, "returns": 0.4},
    "I expected something else": {"returns": 0.5, "billing": 0.3, "technical fault": 0.2},
    "it still has not happened": {"delivery": 0.5, "returns": 0.3, "cancellation": 0.2},
}

OPENINGS = (
    "", "hello", "good morning", "dear team", "hi there", "hello support", "I have a question", "excuse me",
    "good evening", "to whom it may concern",
)  # fmt: skip
CLOSINGS = (
    "", "thanks", "please reply soon", "kind regards", "what can be done", "I look forward to your answer",
    "many thanks in advance", "this is urgent", "no hurry", "please call me",
)  # fmt: skip

# Remarks that say nothing of the class.
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
TOWNS = ("leeds", "york", "bath", "derby", "lincoln", "exeter", "dover", "oxford", "truro", "durham", "ely", "wells")
REMARKS = (
    "I have been with you since {month}",
    "I live in {town}",
    "I moved to {town} in {month}",
    "a friend from {town} told me about your shop",
    "I bought from you in {month} before",
    "your shop in {town} could not help",
)
