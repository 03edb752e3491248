/// The list of all jobs for the service's operator, as a page in a browser.
#pragma once

#include <memory>
#include <string>

#include "service/job_store.h"

namespace tempo::service {

/// Serves the list until destroyed, to whoever reaches it. It shows `JobSight` of every job, and how many run before
/// it: no loss, setting, data, key or owner.
class JobsPage {
 public:
  /// @param address PORT of localhost, or HOST:PORT; port 0 takes a free one. @param jobs, queue outlive it.
  /// @throws InputError for a bad address, one that is in use or not of this machine.
  JobsPage(const std::string& address, const JobStore& jobs, const JobQueue& queue);
  ~JobsPage();

  /// "http://localhost:8080/", with the port that was taken.
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string address_;
};

/// {"jobs":[{"job":"...","state":"running",...}]}: the running one, then those that
/// wait for it, then those that began last.
std::string jobs_json(const JobStore& jobs, const JobQueue& queue);

}  // namespace tempo::service
