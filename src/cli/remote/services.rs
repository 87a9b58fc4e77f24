//! `campanile services`: who has registered, and for which topics.

use clap::Command;

use super::{
    Failure, Remote, json,
    output::Form,
    pages::{self, PAGE},
    table::{Side, Table},
};
use crate::grpc::proto::v1::ListServicesRequest;

pub(super) const NAME: &str = "services";

pub(super) fn command() -> Command {
    Command::new(NAME).about("List the services and the topics that they have queues on")
}

pub(super) async fn run(remote: &mut Remote) -> Result<(), Failure> {
    let services = pages::all(async |page_token| {
        let page = remote.client.list_services(ListServicesRequest { page_size: Some(PAGE), page_token }).await?;
        Ok((page.services, page.next_page_token))
    });
    let services = services.await?;
    if remote.form == Form::Json {
        return services.iter().try_for_each(|service| remote.output.json(&json::service(service)));
    }
    let mut table = Table::new(&[("SERVICE", Side::Left), ("TOPICS", Side::Left)]);
    for service in services {
        table.row([service.name, service.topics.join(" ")]);
    }
    remote.output.table(&table)
}
